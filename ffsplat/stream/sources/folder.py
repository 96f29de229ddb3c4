"""Photos of a folder, or those that a pattern means, as the frames of a stream."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from ffsplat.decode import open_photo, read_photo
from ffsplat.errors import ImageError
from ffsplat.exif import exif_tags, focal_lengths, orientation
from ffsplat.images import find_images
from ffsplat.stream.decoding import MAX_BYTES, MAX_MEGAPIXELS
from ffsplat.stream.frame import Frame
from ffsplat.stream.sources import Source

_log = logging.getLogger(__name__)

FPS = 10.0
"""Photos a second, where nobody says."""

MAX_SIDE = 2048
"""Pixels of the longer side, at most, of what is decoded here; no network sees as many."""


class FolderSource(Source):
    """Photos in natural order, `fps` a second, with the focal length that their EXIF block tells.

    Photos stand upright. What cannot be read is a frame without content: the stream counts it as
    undecodable, a warning says why. Raises ImageError if there is no photo.
    """

    live = False

    def __init__(self, text: str | Path, *, fps: int | float = FPS):
        self.name = str(text)
        self._paths = find_images([text])
        self._fps = fps
        self._closed = False

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Frame]:
        """One frame a photo."""
        for number, path in enumerate(self._paths):
            if self._closed:
                return
            image, intrinsics = _read(path)
            time_ns = round(number * 1e9 / self._fps)
            yield Frame(image, time_ns, number, intrinsics=intrinsics, name=path.name)

    def close(self) -> None:
        """End after the frame at hand."""
        self._closed = True


def _read(
    path: Path,
) -> tuple[bytes | UInt8[np.ndarray, "h w 3"], Float64[np.ndarray, "3 3"] | None]:
    """A photo's picture and intrinsics. A JPEG stays one, for it is decoded at the size needed."""
    try:
        with open_photo(path, MAX_MEGAPIXELS) as image:
            size, tags = image.size, exif_tags(image)
            upright = image.format in ("JPEG", "MPO") and orientation(tags) == 1
        if upright and path.stat().st_size <= MAX_BYTES:
            return path.read_bytes(), _intrinsics(focal_lengths(tags, *size), *size)
        photo = read_photo(path, min(max(size), MAX_SIDE), 1, MAX_MEGAPIXELS)
    except (ImageError, OSError) as error:
        _log.warning("cannot read %s: %s", path.name, error)
        return b"", None
    height, width = photo.pixels.shape[:2]
    sent = _intrinsics(photo.focal, photo.width, photo.height)
    scale = np.diag([width / photo.width, height / photo.height, 1.0])
    return photo.pixels, None if sent is None else scale @ sent


def _intrinsics(
    focal: tuple[float, float] | None, width: int, height: int
) -> Float64[np.ndarray, "3 3"] | None:
    """Intrinsics in pixels, the principal point in the middle."""
    if focal is None:
        return None
    return np.array([[focal[0], 0, width / 2], [0, focal[1], height / 2], [0, 0, 1]])
