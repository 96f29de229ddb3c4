"""One frame decoded at the size of its clip: photo, depth, labels and the matching intrinsics."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from PIL import Image

from data.sources.files import open_picture
from data.sources.frame import DepthMap, Frame
from data.sources.lens import ideal_intrinsics, stored_pixels
from ffsplat.decode import view_size
from ffsplat.errors import ImageError

MAX_PIXELS = 100_000_000
PHOTO_MODES = ("L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
ASPECT = 0.02
"""By how much the two scales of a stored photo may differ: published sizes are rounded."""


@dataclass(frozen=True)
class Target:
    """How large views become: the longer side and the number both sides are whole multiples of.

    With `square` the largest square in the middle of the photo is cut out first, else nothing is.
    """

    longer: int
    multiple: int = 8
    square: bool = False

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what is kept of a photo of (width, height), in pixels."""
        width, height = size
        if not self.square:
            return (0.0, 0.0, float(width), float(height))
        side = min(size)
        left, top = (width - side) / 2, (height - side) / 2
        return (left, top, left + side, top + side)

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the view of a photo of (width, height)."""
        left, top, right, bottom = self.box(size)
        return view_size(int(right - left), int(bottom - top), self.longer, self.multiple)


@dataclass(frozen=True, eq=False)
class View:
    """A decoded frame; `depth` is 0 where nothing is known.

    `labels` holds numbers of the source's own label space, `instances` its object numbers.
    """

    image: UInt8[np.ndarray, "h w 3"]
    intrinsics: Float64[np.ndarray, "3 3"]
    depth: Float32[np.ndarray, "h w"] | None
    labels: Int64[np.ndarray, "h w"] | None
    instances: Int64[np.ndarray, "h w"] | None


def load_view(frame: Frame, target: Target) -> View:
    """Decode a frame: the photo by Lanczos over what each pixel covers, maps by nearest value.

    A distorted photo is first redrawn as that of a pinhole camera, zoomed until it has no empty
    border. Raises ImageError for pictures that are damaged, absurd or of another shape.
    """
    intrinsics = scaled_intrinsics(frame, target)
    photo = _photo(frame.image)
    image = _resized(_pinhole_photo(photo, frame), frame, target)
    grid = _stored_grid(frame, target)
    depth = labels = instances = None
    if frame.depth is not None:
        depth = _depth(frame, frame.depth, grid)
    if frame.labels is not None:
        labels = _numbers(frame.labels.path, grid / frame.size)
        if frame.labels.divisor > 1:
            labels, instances = np.divmod(labels, frame.labels.divisor)
    if frame.instances is not None:
        instances = _numbers(frame.instances, grid / frame.size)
    return View(image, intrinsics, depth, labels, instances)


def load_depth(frame: Frame, target: Target) -> Float32[np.ndarray, "h w"] | None:
    """The depth of `load_view` alone, None for a frame without any."""
    if frame.depth is None:
        return None
    return _depth(frame, frame.depth, _stored_grid(frame, target))


def scaled_intrinsics(frame: Frame, target: Target) -> Float64[np.ndarray, "3 3"]:
    """The intrinsics that a frame has as a view, exact also where the two scales differ."""
    ideal = ideal_intrinsics(frame.intrinsics, frame.distortion, frame.size)
    left, top, right, bottom = target.box(frame.size)
    width, height = target.size(frame.size)
    across, down = width / (right - left), height / (bottom - top)
    return np.array([[across, 0, -across * left], [0, down, -down * top], [0, 0, 1]]) @ ideal


def read_map(path: Path) -> np.ndarray:
    """The values (h, w) of a grey picture or a palette's indices, as they are stored."""
    with open_picture(path) as picture:
        _check_size(picture)
        values = np.asarray(picture)
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise ImageError(f"{path} is not a map of one channel")
    return values


def _photo(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    with open_picture(path) as picture:
        _check_size(picture)
        if picture.mode not in PHOTO_MODES:
            raise ImageError(f"pixel format {picture.mode} is not that of a photo")
        return np.asarray(picture.convert("RGB"))


def _check_size(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise ImageError(f"{picture.width} x {picture.height} pixels are too many")


def _pinhole_photo(photo: UInt8[np.ndarray, "h w 3"], frame: Frame) -> UInt8[np.ndarray, "h w 3"]:
    if not any(frame.distortion):
        return photo
    height, width = photo.shape[:2]
    scale = np.array([width, height]) / frame.size
    ideal = ideal_intrinsics(frame.intrinsics, frame.distortion, frame.size)
    centres = (np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) + 0.5) / scale
    places = stored_pixels(centres, ideal, frame.intrinsics, frame.distortion) * scale - 0.5
    places = places.astype(np.float32)
    border = cv2.BORDER_REPLICATE
    return cv2.remap(photo, places[..., 0], places[..., 1], cv2.INTER_CUBIC, borderMode=border)


def _resized(
    photo: UInt8[np.ndarray, "h w 3"], frame: Frame, target: Target
) -> UInt8[np.ndarray, "h2 w2 3"]:
    across, down = photo.shape[1] / frame.size[0], photo.shape[0] / frame.size[1]
    if abs(across / down - 1) > ASPECT:
        shown = f"{photo.shape[1]} x {photo.shape[0]}"
        raise ImageError(f"{frame.image} is {shown}, not {frame.size[0]} x {frame.size[1]}")
    left, top, right, bottom = target.box(frame.size)
    box = (left * across, top * down, right * across, bottom * down)
    lanczos = Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(photo).resize(target.size(frame.size), lanczos, box))


def _stored_grid(frame: Frame, target: Target) -> Float64[np.ndarray, "h w 2"]:
    """Where the pixel centres of the view lie in the stored photo, in the pixels of its `size`."""
    left, top, right, bottom = target.box(frame.size)
    width, height = target.size(frame.size)
    x = left + (np.arange(width) + 0.5) * (right - left) / width
    y = top + (np.arange(height) + 0.5) * (bottom - top) / height
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    if not any(frame.distortion):
        return grid
    ideal = ideal_intrinsics(frame.intrinsics, frame.distortion, frame.size)
    return stored_pixels(grid, ideal, frame.intrinsics, frame.distortion)


def _depth(
    frame: Frame, depth: DepthMap, grid: Float64[np.ndarray, "h w 2"]
) -> Float32[np.ndarray, "h w"]:
    values = read_map(depth.path)
    if depth.intrinsics is None:
        places = grid / frame.size
    else:
        between = depth.intrinsics @ np.linalg.inv(frame.intrinsics)
        places = (grid @ between[:2, :2].T + between[:2, 2]) / values.shape[::-1]
    sampled = _sampled(values, places)
    known = _within(places) & np.isfinite(sampled) & (sampled > 0)
    if depth.invalid is not None:
        known &= sampled != depth.invalid
    return np.where(known, sampled * depth.scale, 0).astype(np.float32)


def _numbers(path: Path, places: Float64[np.ndarray, "h w 2"]) -> Int64[np.ndarray, "h w"]:
    return _sampled(read_map(path), places).astype(np.int64)


def _within(places: Float64[np.ndarray, "h w 2"]) -> Bool[np.ndarray, "h w"]:
    x, y = places[..., 0], places[..., 1]
    return (x >= 0) & (x < 1) & (y >= 0) & (y < 1)


def _sampled(values: np.ndarray, places: Float64[np.ndarray, "h w 2"]) -> np.ndarray:
    """The nearest values of a map at places that count from 0 to 1 across and down it."""
    height, width = values.shape
    column, row = np.floor(np.moveaxis(places * (width, height), -1, 0)).astype(np.int64)
    return values[row.clip(0, height - 1), column.clip(0, width - 1)]
