"""What people say of the photos of a data set, read from the files that they published.

All files are strangers' and read under limits; SceneFileError names what is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int32

from ffsplat.decode import decoder_errors, open_photo
from ffsplat.errors import ImageError, SceneFileError
from ffsplat.evaluation.polygons import polygon_mask
from ffsplat.io.text import read_object, read_text

MAX_MEGAPIXELS = 64.0
MAX_PHRASES = 4096
"""Phrases of one image, and classes of a set."""

MASKED = 10
"""Grey value above which a drawn mask of LERF-OVS is true: JPEG spoils the rest."""


@dataclass(frozen=True, eq=False)
class LabelledView:
    """One photo, by the stem of its file, and where in it each phrase is true.

    `boxes` are opposite corners (x, y, x, y) in pixels, for data sets that have them; `instances`
    numbers the objects of every pixel, -1 for none.
    """

    name: str
    masks: Mapping[str, Bool[np.ndarray, "h w"]]
    boxes: Mapping[str, Float64[np.ndarray, "n 4"]]
    instances: Int32[np.ndarray, "h w"] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the masks."""
        height, width = next(iter(self.masks.values())).shape
        return width, height


def read_lerf_ovs(folder: Path) -> list[LabelledView]:
    """The labels of a scene of LERF-OVS: one `frame_*.json` a photo, polygons and boxes in it.

    Objects of one category are one mask and several boxes. Source: the label files that came with
    LangSplat (Qin et al., 2024), and what its `evaluate_iou_loc.py` reads of them. A folder without
    them may have the masks that it draws of them, `frame_*/<phrase>.jpg` (or `.png`, perhaps in a
    folder `gt`), true above `MASKED` as in `compute_lerf_iou.py` of OpenGaussian (Wu et al., 2024);
    these have no boxes.
    """
    files = sorted(folder.glob("frame_*.json"))
    views = [_lerf_view(path) for path in files] if files else _drawn_views(folder)
    views = [view for view in views if view.masks]
    if not views and (inside := sorted(folder.glob("*/frame_*.json"))):
        raise SceneFileError(f"{folder} holds several scenes", f"give one: {inside[0].parent}")
    return _some(views, folder, "frame_*.json with objects", "label/<scene> of LERF-OVS has them")


def _drawn_views(folder: Path) -> list[LabelledView]:
    """Masks as images, a folder a photo."""
    folder = folder / "gt" if (folder / "gt").is_dir() else folder
    views = []
    for frame in sorted(path for path in folder.glob("frame_*") if path.is_dir()):
        images = sorted(p for p in frame.iterdir() if p.suffix.lower() in (".jpg", ".png"))
        masks = {path.stem: _gray(path) > MASKED for path in images[:MAX_PHRASES]}
        _one_size(masks, frame)
        views.append(LabelledView(frame.name, masks, {}))
    return views


def _lerf_view(path: Path) -> LabelledView:
    content = read_object(path)
    try:
        size = int(content["info"]["width"]), int(content["info"]["height"])
        listed = [
            (str(item["category"]), _outlines(item["segmentation"]), _points(item["bbox"]).ravel())
            for item in content["objects"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SceneFileError(
            f"{path} is not a label file of LERF-OVS: {_what_lacks(error)}",
            "it has info (width, height) and objects (category, segmentation, bbox)",
        ) from error
    if not (0 < size[0] * size[1] <= MAX_MEGAPIXELS * 1e6 and min(size) > 0):
        raise SceneFileError(f"{path}: an image of {size[0]} x {size[1]} pixels")
    if len(listed) > MAX_PHRASES or any(len(box) != 4 for _, _, box in listed):
        raise SceneFileError(f"{path} has too many objects, or a box without four numbers")
    masks: dict[str, np.ndarray] = {}
    boxes: dict[str, list[np.ndarray]] = {}
    for name, outlines, box in listed:
        for outline in outlines:
            mask = polygon_mask(outline, size)
            masks[name] = masks[name] | mask if name in masks else mask
        boxes.setdefault(name, []).append(box)
    return LabelledView(path.stem, masks, {name: np.stack(rows) for name, rows in boxes.items()})


def _outlines(values: object) -> list[Float64[np.ndarray, "n 2"]]:
    """One polygon of [x, y] pairs or of x, y, x, y, ..., or a list of such."""
    listed = values if isinstance(values, list) else []
    nested = all(isinstance(part, list) and len(part) != 2 for part in listed)
    pairs = all(
        isinstance(part, list) and all(isinstance(p, list) for p in part) for part in listed
    )
    return [_points(part) for part in listed] if listed and (nested or pairs) else [_points(values)]


def _what_lacks(error: Exception) -> str:
    """What is wrong with a label file, in words."""
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _points(values: object) -> Float64[np.ndarray, "n 2"]:
    points = np.asarray(values, np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not finite")
    return points


def read_3d_ovs(folder: Path) -> list[LabelledView]:
    """The labels of a scene of 3D-OVS: `segmentations/classes.txt`, and a PNG a class and frame.

    Classes are sorted by name; a frame is a folder, with every class in it. A mask is what is
    white: 255 of the grey image. Source: the loader of Liu et al., "Weakly Supervised 3D
    Open-vocabulary Segmentation", 2023, `dataLoader/llff.py`.
    """
    folder = folder / "segmentations" if (folder / "segmentations").is_dir() else folder
    listed = [line.strip() for line in read_text(folder / "classes.txt").splitlines()]
    names = sorted(filter(None, listed))
    if not 0 < len(names) <= MAX_PHRASES or any("/" in name or name == ".." for name in names):
        raise SceneFileError(f"{folder / 'classes.txt'} is no list of classes")
    views = []
    for frame in sorted(path for path in folder.iterdir() if path.is_dir()):
        if absent := [name for name in names if not (frame / f"{name}.png").is_file()]:
            raise SceneFileError(
                f"{frame} has no mask {absent[0]}.png", "every class of classes.txt has one a photo"
            )
        masks = {name: _gray(frame / f"{name}.png") == 255 for name in names}
        _one_size(masks, frame)
        views.append(LabelledView(frame.name, masks, {}))
    return _some(views, folder, "folder with masks")


def read_folder(folder: Path) -> list[LabelledView]:
    """The labels of a plain folder: `cameras.json` with `label_names`, and images of numbers.

    The layout is that of `python -m data convert`: a frame has `image`, `label` and perhaps
    `instance`, 8- or 16-bit images; label 0 and those without a name are unlabelled. A name with
    underscores is asked with blanks.
    """
    content = read_object(folder / "cameras.json")
    names = content.get("label_names")
    frames = content.get("frames")
    if not isinstance(names, dict) or not isinstance(frames, list) or len(names) > MAX_PHRASES:
        raise SceneFileError(f"{folder / 'cameras.json'} has no label_names, or no frames")
    words = {number: str(name).replace("_", " ") for number, name in names.items()}
    views = []
    for frame in frames:
        if not (isinstance(frame, dict) and frame.get("label") and frame.get("image")):
            continue
        label = read_numbers(_inside(folder, frame["label"]))
        masks = {
            word: label == int(number)
            for number, word in words.items()
            if number.isdigit() and int(number) > 0
        }
        instances = frame.get("instance")
        views.append(
            LabelledView(
                Path(str(frame["image"])).stem,
                masks,
                {},
                None if not instances else read_numbers(_inside(folder, instances)) - 1,
            )
        )
    return _some([view for view in views if view.masks], folder, "frame with a label image")


def read_numbers(path: Path) -> Int32[np.ndarray, "h w"]:
    """The values of an image of one channel, such as the numbers of objects or classes.

    Raises SceneFileError for another file, and for an image of several channels.
    """
    return _pixels(path, None).astype(np.int32)


def _some(
    views: list[LabelledView], folder: Path, what: str, hint: str | None = None
) -> list[LabelledView]:
    if not views:
        raise SceneFileError(f"{folder} has no {what}", hint)
    return views


def _one_size(masks: Mapping[str, np.ndarray], folder: Path) -> None:
    if len({mask.shape for mask in masks.values()}) > 1:
        raise SceneFileError(f"{folder}: masks of several sizes")


def _inside(folder: Path, name: object) -> Path:
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise SceneFileError(f"{str(name)[:80]} lies outside {folder}")
    return path


def _gray(path: Path) -> np.ndarray:
    return _pixels(path, "L")


def _pixels(path: Path, mode: str | None) -> np.ndarray:
    try:
        with open_photo(path, MAX_MEGAPIXELS) as image, decoder_errors():
            values = np.array(image if mode is None else image.convert(mode))
    except ImageError as error:
        raise SceneFileError(f"{path}: {error}") from error
    if values.ndim != 2:
        raise SceneFileError(f"{path} is not an image of one channel")
    return values
