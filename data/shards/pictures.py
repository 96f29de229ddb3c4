"""Images, depth and labels as PNG, JPEG or WebP files in memory."""

import io
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int16, UInt8, UInt16
from PIL import Image, UnidentifiedImageError

from data.clip import UNKNOWN
from data.shards.errors import ShardError
from ffsplat.decode import decoder_errors
from ffsplat.errors import ImageError

ImageFormat = Literal["png", "webp", "jpg"]
"""PNG and WebP are lossless; JPEG is not: quality 95, colours at full resolution."""
STEPS = 65535
"""The largest value of a 16-bit pixel."""

_PILLOW = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {},
    "webp": {"lossless": True},
    "jpg": {"quality": 95, "subsampling": 0},
}
_MAGIC: dict[bytes, ImageFormat] = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}


def encode_image(image: UInt8[np.ndarray, "h w 3"], suffix: ImageFormat) -> bytes:
    """An sRGB image as a file."""
    return _encode(image, suffix)


def photo_suffix(photo: bytes, image: UInt8[np.ndarray, "h w 3"]) -> ImageFormat:
    """The format of a source's own file; ShardError unless it decodes to exactly this image."""
    height, width, _ = image.shape
    for magic, suffix in _MAGIC.items():
        if photo.startswith(magic):
            if not np.array_equal(decode_image(photo, suffix, (width, height)), image):
                raise ShardError("a photo does not decode to the pixels of its image")
            return suffix
    raise ShardError("a photo is neither JPEG nor PNG nor WebP")


def decode_image(
    content: bytes, suffix: ImageFormat, size: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """An sRGB image of (width, height) `size`; ShardError for any other, before it is decoded."""
    return _decode(content, suffix, size, ("RGB",))


def depth_step(depth: Float32[np.ndarray, "v h w"]) -> float:
    """The step, in world units, of which 65535 make the largest depth; 0 where none is known."""
    return float(depth.max()) / STEPS


def encode_depth(depth: Float32[np.ndarray, "h w"], step: float) -> bytes:
    """Depth as a 16-bit PNG that counts steps, 0 where it is unknown.

    The error is at most half a step, but a known depth stays known: less than half a step becomes
    a whole one.
    """
    counted = np.rint(depth / (step or 1.0)).clip(1, STEPS)
    return _encode(np.where(depth > 0, counted, 0).astype(np.uint16), "png")


def decode_depth(content: bytes, step: float, size: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """Depth in world units; not finite where float32 does not hold it."""
    counted = _decode(content, "png", size, ("I;16",))
    with np.errstate(over="ignore", invalid="ignore"):
        return (counted * np.float64(step)).astype(np.float32)


def encode_labels(labels: Int16[np.ndarray, "h w"]) -> bytes:
    """Labels as a PNG of 8 bits, or 16 if it has to; 0 stands for UNKNOWN, others are one more."""
    shifted = labels.astype(np.int32) - UNKNOWN
    return _encode(shifted.astype(np.uint8 if shifted.max() < 256 else np.uint16), "png")


def decode_labels(content: bytes, size: tuple[int, int]) -> Int16[np.ndarray, "h w"]:
    """What `encode_labels` wrote; ShardError for labels beyond int16."""
    labels = _decode(content, "png", size, ("L", "I;16")).astype(np.int32) + UNKNOWN
    if labels.max() > np.iinfo(np.int16).max:
        raise ShardError(f"a label is {labels.max()}")
    return labels.astype(np.int16)


def _encode(values: UInt8[np.ndarray, "..."] | UInt16[np.ndarray, "..."], suffix: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(content, _PILLOW[suffix], **_OPTIONS[suffix])
    return content.getvalue()


def _decode(
    content: bytes, suffix: str, size: tuple[int, int], modes: tuple[str, ...]
) -> UInt8[np.ndarray, "..."] | UInt16[np.ndarray, "..."]:
    """The pixels of a file whose header promises this size and one of these modes of Pillow."""
    try:
        with decoder_errors():
            image = _open(content, _PILLOW[suffix])
            if image.size != size or image.mode not in modes:
                found = f"{image.width} x {image.height} pixels of mode {image.mode}"
                raise ShardError(f"{found}, expected {size[0]} x {size[1]} of {' or '.join(modes)}")
            return np.asarray(image)
    except ImageError as error:
        raise ShardError(str(error)) from error


def _open(content: bytes, kind: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=[kind])
    except UnidentifiedImageError:
        raise ShardError(f"not a {kind} file") from None
