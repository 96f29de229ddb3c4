"""A frame's picture from bytes that nobody vouches for: limits first, then no more than is needed.

A picture is decoded no larger than the network can use: a JPEG at 1/2, 1/4 or 1/8 of its size,
which spares most of the work, everything else reduced by a whole factor.
"""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from ffsplat.decode import BACKGROUND, decoder_errors, to_rgb
from ffsplat.errors import ImageError

MAX_BYTES = 8 << 20
MAX_MEGAPIXELS = 64
MIN_SIDE = 8
"""A picture with a shorter side, in pixels, shows nothing."""

MAX_SCANS = 128
"""Scans of a JPEG: a progressive one has about ten, and each goes over all pixels again."""

ENOUGH = 2
"""Pictures keep at least so many times the pixels a side that the network sees."""

_SCAN = b"\xff\xda"  # marker SOS; within a scan, 0xFF is always followed by 0x00 or a restart


class RefusedImage(ImageError):
    """A picture of a stream that is not used; `reason` is that of the frame's verdict."""

    def __init__(self, reason: Literal["undecodable", "too_large"], message: str):
        super().__init__(message)
        self.reason: Literal["undecodable", "too_large"] = reason


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture for the network, and how it lies on the one that was sent.

    `scale` (x, y) is in sent pixels per decoded pixel; `width` and `height` are those that were
    sent. The longer side is at least ENOUGH times the resolution asked for, if it was sent so.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    scale: tuple[float, float]
    width: int
    height: int


def decode(
    data: bytes,
    *,
    resolution: int,
    max_bytes: int = MAX_BYTES,
    max_megapixels: int | float = MAX_MEGAPIXELS,
) -> Decoded:
    """Decode a JPEG, PNG or WebP for a network that sees `resolution` pixels on the longer side.

    Of an animation, the first picture. EXIF orientation is not applied: the pose and intrinsics of
    a frame speak of the pixels as they are stored. Transparent pictures lie on white. Safe to call
    from several threads. Raises RefusedImage: "too_large" for more than `max_bytes` or
    `max_megapixels`, before anything is decoded; "undecodable" for everything else.
    """
    if len(data) > max_bytes:
        raise RefusedImage("too_large", f"{len(data)} bytes, limit {max_bytes}")
    kind = _kind(data)
    if kind == "JPEG" and data.count(_SCAN) > MAX_SCANS:
        raise RefusedImage("undecodable", f"a JPEG of more than {MAX_SCANS} scans")
    with _open(data, kind) as image:
        _check_size(image, max_megapixels)
        try:
            return _reduced(image, resolution)
        except ImageError as error:
            raise RefusedImage("undecodable", str(error)) from error


def from_pixels(pixels: UInt8[np.ndarray, "h w 3"], *, resolution: int) -> Decoded:
    """The same for a picture that came as pixels, such as a video's; no copy where it is small."""
    height, width = pixels.shape[:2]
    if min(width, height) < MIN_SIDE:
        raise RefusedImage("undecodable", f"{width} x {height} pixels show nothing")
    if _factor(width, height, resolution) == 1:
        return Decoded(pixels, (1.0, 1.0), width, height)
    return _reduced(Image.fromarray(np.ascontiguousarray(pixels)), resolution)


def _kind(data: bytes) -> str:
    """The format that the first bytes claim, of the few that a stream may bring."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise RefusedImage("undecodable", "no JPEG, PNG or WebP")


def _open(data: bytes, kind: str) -> Image.Image:
    """Read the header alone, by the one reader that the first bytes call for."""
    try:
        with decoder_errors():
            return Image.open(io.BytesIO(data), formats=[kind])
    except UnidentifiedImageError as error:
        raise RefusedImage("undecodable", f"damaged {kind} header") from error
    except Image.DecompressionBombWarning as error:  # an error under `python -W error`
        raise RefusedImage("too_large", str(error)) from error
    except ImageError as error:
        bomb = isinstance(error.__cause__, Image.DecompressionBombError)
        raise RefusedImage("too_large" if bomb else "undecodable", str(error)) from error


def _check_size(image: Image.Image, max_megapixels: int | float) -> None:
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        raise RefusedImage("too_large", f"{width} x {height} pixels, limit {max_megapixels:g} MP")
    if min(width, height) < MIN_SIDE:
        raise RefusedImage("undecodable", f"{width} x {height} pixels show nothing")


def _factor(width: int, height: int, resolution: int) -> int:
    return max(1, max(width, height) // (ENOUGH * resolution))


def _reduced(image: Image.Image, resolution: int) -> Decoded:
    """Decode, by a smaller transform where the format allows, and average what is left over."""
    width, height = image.size
    factor = _factor(width, height, resolution)
    with decoder_errors():
        drafted = image.draft(None, (max(1, width // factor), max(1, height // factor)))
        image.load()
    done = 1 if drafted is None else round(width / drafted[1][2])
    image = to_rgb(image)
    if factor // done > 1:
        image = image.reduce(factor // done)
        done *= factor // done
    if image.mode == "RGBA":
        background = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(background, image).convert("RGB")
    return Decoded(np.asarray(image), (float(done), float(done)), width, height)
