"""Pairs of real photos with known cameras and depth: what carries over from synthetic rooms.

A folder of photo sets is read, each with `cameras.json` (frames with K and cam_to_world, OpenCV
axes, pixel (0, 0) the centre of the top-left pixel), `depth/` (uint16 PNG, metres = value times
`depth_scale`, 0 = none) and `pairs.json` (i, j, covisibility, angle in degrees, baseline).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from PIL import Image
from torch import Tensor

from ffsplat.errors import SceneFileError, UsageError
from ffsplat.geometry import invert_rigid, pixel_grid
from ffsplat.images import load_views
from ffsplat.model import FFSplat
from ffsplat.refine import refine_cameras
from ffsplat.types import Views
from train import metrics
from train.evaluation import baselines
from train.evaluation.tally import Tally, median

MAX_ANGLE = 30.0
MIN_COVISIBILITY = 0.3
MAX_PAIRS = 30

_CAMERAS = {"network": "refined", "regressed cameras": "regressed", "identity": "identity"}
_FIELDS = {"network": "refined", "regressed cameras": "regressed", "mean of the range": "prior"}
_DEPTHS = {"network": "network", "constant depth": "constant depth"}
COLUMNS = {
    "abs_rel": ("AbsRel", _DEPTHS, 3, ""),
    "delta1": ("delta1", _DEPTHS, 2, ""),
    "rotation_deg": ("rotation", _CAMERAS, 1, ", deg"),
    "translation_deg": ("translation direction", _CAMERAS, 0, ", deg"),
    "fov_deg": ("field of view", _FIELDS, 1, ", deg"),
}
"""Title, who is measured and what the title calls them, digits and unit of each metric."""


@dataclass(frozen=True, eq=False)
class PhotoPair:
    """Two photos as the network sees them and what is true of them, in view pixels and metres."""

    views: Views
    depth: Float[Tensor, "1 2 h w"]
    intrinsics: Float[Tensor, "1 2 3 3"]
    second_in_first: Float[Tensor, "1 4 4"]


def photo_sets(folder: Path) -> list[Path]:
    """The sets in a folder that have cameras, pairs and depth; raises UsageError without any."""
    files = ("cameras.json", "pairs.json", "depth")
    sets = [s for s in sorted(folder.iterdir()) if all((s / name).exists() for name in files)]
    if not sets:
        raise UsageError(f"no photo set in {folder} has {', '.join(files)}")
    return sets


def choose_pairs(pairs: list[list[float | int]]) -> list[tuple[int, int]]:
    """At most MAX_PAIRS pairs that overlap and turn little, evenly spaced in their order."""
    good = [
        (int(i), int(j))
        for i, j, covisibility, angle, _ in pairs
        if angle < MAX_ANGLE and covisibility >= MIN_COVISIBILITY
    ]
    rows = np.linspace(0, len(good) - 1, min(MAX_PAIRS, len(good))).round().astype(int)
    return [good[row] for row in rows]


@dataclass(frozen=True, eq=False)
class Frame:
    """A photo of a set and its depth map, with its camera: pixel centres are integers here."""

    image: Path
    depth: Path
    size: tuple[int, int]
    intrinsics: Float64[np.ndarray, "3 3"]
    world_from_camera: Float64[np.ndarray, "4 4"]


def read_frames(folder: Path) -> tuple[list[tuple[Frame, Frame]], float]:
    """The chosen pairs of a set, and the metres of one step of its depth maps.

    Raises SceneFileError for files that break the layout.
    """
    try:
        cameras = json.loads((folder / "cameras.json").read_text(encoding="utf-8"))
        pairs = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))["pairs"]
        frames = {
            number: Frame(
                folder / frame["image"],
                folder / frame["depth"],
                (int(frame["width"]), int(frame["height"])),
                np.array(frame["K"], dtype=np.float64).reshape(3, 3),
                np.array(frame["cam_to_world"], dtype=np.float64).reshape(4, 4),
            )
            for number, frame in enumerate(cameras["frames"])
        }
        chosen = [(frames[i], frames[j]) for i, j in choose_pairs(pairs)]
        return chosen, float(cameras["depth_scale"])
    except (KeyError, TypeError, ValueError) as error:
        raise SceneFileError(
            f"{folder}: cameras.json or pairs.json breaks the layout ({error!r})"
        ) from error


def read_pairs(folder: Path, resolution: int, patch: int) -> Iterator[PhotoPair]:
    """The chosen pairs of a set, each resized for a network."""
    pairs, depth_scale = read_frames(folder)
    for frames in pairs:
        loaded = load_views([frame.image for frame in frames], resolution=resolution, patch=patch,
                            on_error="fail")  # fmt: skip
        poses = torch.from_numpy(np.stack([frame.world_from_camera for frame in frames]))
        depth, intrinsics = zip(
            *(
                view_truth(frame, loaded.views, view, depth_scale)
                for view, frame in enumerate(frames)
            ),
            strict=True,
        )
        yield PhotoPair(
            loaded.views,
            torch.from_numpy(np.stack(depth))[None],
            torch.from_numpy(np.stack(intrinsics))[None],
            (invert_rigid(poses[:1]) @ poses[1:]).float(),
        )


def view_truth(
    frame: Frame, views: Views, view: int, depth_scale: float
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "3 3"]]:
    """Depth at the pixel centres of a view (0 = none) and its intrinsics, by the photo's own."""
    source = views.sources[view]
    if (source.width, source.height) != frame.size:
        raise SceneFileError(f"{frame.image} is not of the size in cameras.json")
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    intrinsics = np.linalg.inv(source.original_from_view) @ half @ frame.intrinsics
    with Image.open(frame.depth) as image:
        metres = np.asarray(image, dtype=np.float32) * np.float32(depth_scale)
    height, width = views.valid.shape[1:]
    grid = pixel_grid(height, width, torch.zeros(1, dtype=torch.float64)).numpy()
    places = grid @ source.original_from_view[:2, :2].T + source.original_from_view[:2, 2]
    # A depth map may be smaller than its photo; both cover the same field of view.
    places *= np.array(metres.shape[::-1]) / (source.width, source.height)
    column, row = np.moveaxis(places.astype(int), -1, 0)
    inside = views.valid[view] & (row < metres.shape[0]) & (column < metres.shape[1])
    depth = metres[row.clip(max=metres.shape[0] - 1), column.clip(max=metres.shape[1] - 1)]
    return np.where(inside, depth, 0), intrinsics.astype(np.float32)


def add_pair(tally: Tally, network: FFSplat, pair: PhotoPair) -> None:
    """Measure one pair and add it to a tally."""
    device = next(network.parameters()).device
    images = torch.from_numpy(pair.views.pixels).movedim(-1, 1)[None].to(device)
    valid = torch.from_numpy(pair.views.valid)[None].to(device)
    prediction = network(images, valid)
    refined = refine_cameras(prediction, valid)
    truth, mask = pair.depth.to(device), pair.depth.to(device) > 0
    for name, depth in (("network", prediction.depth), ("constant depth", torch.ones_like(truth))):
        aligned = depth * metrics.median_scale(depth, truth, mask)[:, None, None, None]
        tally.add("abs_rel", {name: metrics.absolute_relative(aligned, truth, mask)})
        tally.add("delta1", {name: metrics.delta1(aligned, truth, mask)})
    second = pair.second_in_first.to(device)
    guesses = {
        "network": refined.world_from_camera[:, 1],
        "regressed cameras": prediction.world_from_camera[:, 1],
        "identity": torch.eye(4, device=device)[None],
    }
    for name, pose in guesses.items():
        tally.add("rotation_deg", {name: metrics.rotation_error(pose, second)})
        tally.add("translation_deg", {name: metrics.direction_error(pose, second)})
    true = metrics.field_of_view(pair.intrinsics.to(device), _widths(valid))
    fields = {
        "network": metrics.field_of_view(refined.intrinsics, _widths(valid)),
        "regressed cameras": metrics.field_of_view(prediction.intrinsics, _widths(valid)),
        "mean of the range": torch.full_like(true, baselines.FIELD_OF_VIEW),
    }
    tally.add("fov_deg", {name: (guess - true).abs() for name, guess in fields.items()})


def _widths(valid: Tensor) -> Float[Tensor, "1 2"]:
    """Columns that each photo has on the canvas."""
    return valid.any(-2).sum(-1).float()


@torch.inference_mode()
def measure_photos(network: FFSplat, folder: Path, resolution: int) -> dict[str, Tally]:
    """What was measured of each set of a folder that has pairs to measure, by its name."""
    network.eval()
    found: dict[str, Tally] = {}
    for one in photo_sets(folder):
        tally = Tally()
        for pair in read_pairs(one, resolution, network.config.patch):
            add_pair(tally, network, pair)
        if tally.values:
            found[one.name] = tally
    return found


def note(resolution: int) -> str:
    """What was measured, for the card."""
    return (
        f"Pairs of real photos at {resolution} pixels, at most {MAX_PAIRS} a set, that turn by "
        f"less than {MAX_ANGLE:.0f} degrees and share at least {MIN_COVISIBILITY:.0%} of what they "
        f"see; medians over pairs. Depth is aligned by one median a pair; refined cameras are what "
        f"infer gives; the prior is {baselines.FIELD_OF_VIEW} degrees."
    )


def markdown(sets: Mapping[str, Tally]) -> str:
    """A table with one line a photo set: medians over its pairs, network / others."""
    columns = COLUMNS.values()
    titles = [f"{title} {' / '.join(names.values())}{unit}" for title, names, _, unit in columns]
    lines = [f"| set (pairs) | {' | '.join(titles)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name, tally in sets.items():
        cells = [
            " / ".join(f"{median(key)(tally, who):.{digits}f}" for who in names)
            for key, (_, names, digits, _) in COLUMNS.items()
        ]
        lines.append(f"| {name} ({_pairs(tally)}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(sets: Mapping[str, Tally]) -> dict:
    """The same medians: the network's by flat keys, those of others under `baselines`."""
    return {
        "sets": {
            name: {
                "pairs": _pairs(tally),
                **{key: median(key)(tally, "network") for key in COLUMNS},
                "baselines": _others(tally),
            }
            for name, tally in sets.items()
        }
    }


def _others(tally: Tally) -> dict[str, dict[str, float]]:
    others: dict[str, dict[str, float]] = {}
    for key, who in tally.values:
        if who != "network":
            others.setdefault(who, {})[key] = median(key)(tally, who)
    return others


def _pairs(tally: Tally) -> int:
    return len(tally.values["rotation_deg", "network"])
