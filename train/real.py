"""Pairs of real photos with known cameras and depth: what carries over from synthetic rooms.

A folder of photo sets is read, each with `cameras.json` (frames with K and cam_to_world, OpenCV
axes, pixel (0, 0) the centre of the top-left pixel), `depth/` (uint16 PNG, metres = value times
`depth_scale`, 0 = none) and `pairs.json` (i, j, covisibility, angle in degrees, baseline).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor

from ffsplat.errors import SceneFileError, UsageError
from ffsplat.geometry import invert_rigid, pixel_grid
from ffsplat.images import load_views
from ffsplat.model import FFSplat
from ffsplat.refine import refine_cameras
from ffsplat.types import Views
from train import baselines, metrics
from train.measure import Tally

MAX_ANGLE = 30.0
MIN_COVISIBILITY = 0.3
MAX_PAIRS = 30


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


def choose_pairs(pairs: list[list[float]]) -> list[tuple[int, int]]:
    """At most MAX_PAIRS pairs that overlap and turn little, evenly spaced in their order."""
    good = [
        (int(i), int(j))
        for i, j, covisibility, angle, _ in pairs
        if angle < MAX_ANGLE and covisibility >= MIN_COVISIBILITY
    ]
    rows = np.linspace(0, len(good) - 1, min(MAX_PAIRS, len(good))).round().astype(int)
    return [good[row] for row in rows]


def read_pairs(folder: Path, resolution: int, patch: int) -> Iterator[PhotoPair]:
    """The chosen pairs of a set, each resized for a network."""
    cameras = json.loads((folder / "cameras.json").read_text(encoding="utf-8"))
    pairs = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))["pairs"]
    for pair in choose_pairs(pairs):
        frames = [cameras["frames"][index] for index in pair]
        loaded = load_views([folder / frame["image"] for frame in frames], resolution=resolution,
                            patch=patch, on_error="fail")  # fmt: skip
        poses = torch.tensor([frame["cam_to_world"] for frame in frames], dtype=torch.float64)
        depth, intrinsics = zip(
            *(
                _truth(folder, frame, loaded.views, view, cameras["depth_scale"])
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


def _truth(
    folder: Path, frame: dict, views: Views, view: int, depth_scale: float
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "3 3"]]:
    """Depth at the pixel centres of a view (0 = none) and its intrinsics."""
    source = views.sources[view]
    if (source.width, source.height) != (frame["width"], frame["height"]):
        raise SceneFileError(f"{folder}: {frame['image']} is not of the size in cameras.json")
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    intrinsics = np.linalg.inv(source.original_from_view) @ half @ np.array(frame["K"])
    with Image.open(folder / frame["depth"]) as image:
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
    for name, depth in (("network", prediction.depth), ("constant", torch.ones_like(truth))):
        aligned = depth * metrics.median_scale(depth, truth, mask)[:, None, None, None]
        tally.add("absrel", {name: metrics.absolute_relative(aligned, truth, mask)})
        tally.add("delta1", {name: metrics.delta1(aligned, truth, mask)})
    second = pair.second_in_first.to(device)
    guesses = {
        "regressed": prediction.world_from_camera[:, 1],
        "refined": refined.world_from_camera[:, 1],
        "identity": torch.eye(4, device=device)[None],
    }
    for name, pose in guesses.items():
        tally.add("rotation", {name: metrics.rotation_error(pose, second)})
        tally.add("direction", {name: metrics.direction_error(pose, second)})
    true = metrics.field_of_view(pair.intrinsics.to(device), _widths(valid))
    guess = metrics.field_of_view(prediction.intrinsics, _widths(valid))
    usual = torch.full_like(true, baselines.FIELD_OF_VIEW)
    errors = {"network": (guess - true).abs(), "prior": (usual - true).abs()}
    tally.add("fov", errors)


def _widths(valid: Tensor) -> Float[Tensor, "1 2"]:
    """Columns that each photo has on the canvas."""
    return valid.any(-2).sum(-1).float()


@torch.inference_mode()
def photo_table(network: FFSplat, folder: Path, resolution: int) -> str:
    """A Markdown table with one line a photo set: medians over its pairs, network / baseline."""
    network.eval()
    lines = [
        "| set (pairs) | AbsRel / constant depth | delta1 / constant depth "
        "| rotation regressed / refined / identity, deg | direction regressed / refined, deg "
        "| field of view / prior, deg |",
        "|---|---|---|---|---|---|",
    ]
    for one in photo_sets(folder):
        tally = Tally()
        pairs = 0
        for pair in read_pairs(one, resolution, network.config.patch):
            add_pair(tally, network, pair)
            pairs += 1
        if pairs:
            lines.append(f"| {one.name} ({pairs}) | {_cells(tally)} |")
    return "\n".join(lines)


def _cells(tally: Tally) -> str:
    columns = {
        "absrel": (("network", "constant"), 3),
        "delta1": (("network", "constant"), 2),
        "rotation": (("regressed", "refined", "identity"), 1),
        "direction": (("regressed", "refined"), 0),
        "fov": (("network", "prior"), 1),
    }
    cells = [
        " / ".join(f"{tally.median(metric, name):.{digits}f}" for name in names)
        for metric, (names, digits) in columns.items()
    ]
    return " | ".join(cells)
