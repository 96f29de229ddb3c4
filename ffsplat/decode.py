"""One photo: opened under limits, decoded, turned upright, resized. Refusals give short reasons."""

import errno
import importlib
import importlib.util
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt16
from PIL import Image, UnidentifiedImageError, features

from ffsplat.errors import ImageError
from ffsplat.exif import (
    exif_tags,
    focal_lengths,
    orientation,
    turn_content,
    turn_sides,
    turn_upright,
)

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000")
"""All that Pillow may try: a file that reaches its other readers may start Ghostscript."""

BACKGROUND = (255, 255, 255)
"""sRGB colour behind transparent photos."""

MAX_FILE_BYTES = 1 << 30

SIZE_HINT = "shrink it, or raise the limit with --max-megapixels"

HEIC_HINT = 'install the reader with: pip install "ffsplat[heic]"'

_FLOAT_SLACK = 1e-3  # rounding of whoever computed the values
_SUBFILE_TYPE = 254  # TIFF 6.0, NewSubfileType: 1 is a reduced image of another one
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_REDUCING_GAP = 3.0  # resize in two steps; from 3 on the result cannot be told from one step
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_REFUSED = {
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "SVG",
}
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP": "JPEG 2000",
}
_ERRNO = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "symbolic link loop",
    errno.ENAMETOOLONG: "path too long",
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
}
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo at the size of its view.

    `opaque` is False where the photo is wholly transparent. `width` and `height` are those of the
    upright original, `focal` its focal lengths (x, y) in pixels, None if unknown. `note` says what
    was left out of the file, "" if nothing.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    opaque: Bool[np.ndarray, "h w"]
    width: int
    height: int
    focal: tuple[float, float] | None
    note: str = ""


def view_size(width: int, height: int, resolution: int, patch: int) -> tuple[int, int]:
    """Width and height of the view: the longer side is `resolution`, both are whole patches."""
    scale = resolution / max(width, height)
    across, down = (max(1, int(side * scale / patch + 0.5)) * patch for side in (width, height))
    return across, down


def read_photo(
    source: Path | Image.Image | np.ndarray,
    resolution: int,
    patch: int,
    max_megapixels: int | float,
) -> Photo:
    """Decode one photo and resize it to its view.

    Raises ImageError with a short reason (no name in it) if it cannot be read as a whole, or has
    more than `max_megapixels`; the latter is known before anything is decoded.
    """
    if isinstance(source, np.ndarray):
        return _decode(_from_array(source), resolution, patch)
    if isinstance(source, Image.Image):
        return _decode(source, resolution, patch)
    with open_photo(source, max_megapixels) as image:
        return _decode(image, resolution, patch, own=True)


@contextmanager
def open_photo(path: Path, max_megapixels: int | float) -> Iterator[Image.Image]:
    """A photo of which the header alone has been read; raises ImageError as `read_photo`."""
    with _open_file(path) as file, _open_image(file) as image:
        _check_size(image, max_megapixels)
        yield image


def file_reason(error: Exception) -> str:
    """A few words on why the system or a decoder gave up."""
    if isinstance(error, OSError) and error.errno is not None:
        return _ERRNO.get(error.errno, (error.strerror or "cannot be read").lower())
    if "truncated" in str(error).lower():
        return "truncated file"
    return f"damaged file: {str(error)[:100] or type(error).__name__}"


def heic_readable() -> bool:
    """Whether the optional reader for HEIC photos is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@cache
def _register_heic() -> None:
    importlib.import_module("pillow_heif").register_heif_opener()


@contextmanager
def decoder_errors() -> Iterator[None]:
    """What Pillow raises on a bad file as ImageError; only calls of Pillow go in here."""
    try:
        yield
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ImageError(f"more than {limit:.0f} megapixels", "shrink it") from error
    except _DECODER_ERRORS as error:
        raise ImageError(file_reason(error)) from error


def _open_file(path: Path) -> BinaryIO:
    try:
        status = path.stat()
        _check_kind(status)
        return path.open("rb")
    except OSError as error:
        broken = isinstance(error, FileNotFoundError) and path.is_symlink()
        raise ImageError("broken symbolic link" if broken else file_reason(error)) from error


def _check_kind(status: os.stat_result) -> None:
    """Refuse what would hang, or fill the memory, before it is opened."""
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a regular file")
    if status.st_size == 0:
        raise ImageError("empty file")
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError(f"file larger than {MAX_FILE_BYTES >> 20} MB")


def _open_image(file: BinaryIO) -> Image.Image:
    """Read the header alone; the content decides, not the file's extension."""
    head = file.read(64)
    file.seek(0)
    formats = FORMATS
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and b"avif" not in head:
        if not heic_readable():
            raise ImageError("HEIC photo, and its reader is not installed", HEIC_HINT)
        _register_heic()
        formats = ("HEIF",)
    with decoder_errors():
        try:
            return Image.open(file, formats=formats)
        except UnidentifiedImageError:
            raise ImageError(_unknown(head)) from None


def _unknown(head: bytes) -> str:
    """What a file that no decoder takes looks like."""
    for magic, kind in _REFUSED.items():
        if head.lstrip().startswith(magic):
            return f"{kind}, not a photo"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return f"damaged {kind} header"
    if head[4:8] == b"ftyp" and b"avif" in head:
        return "damaged AVIF header" if features.check("avif") else "AVIF is not readable here"
    return "not an image in a known format"


def _check_size(image: Image.Image, max_megapixels: int | float) -> None:
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        raise ImageError(
            f"{width}x{height} is {width * height / 1e6:.3g} megapixels, limit {max_megapixels:g}",
            SIZE_HINT,
        )
    if getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE) == 1:
        raise ImageError("raw photo of which only the preview is readable", "develop it to JPEG")


def _decode(image: Image.Image, resolution: int, patch: int, own: bool = False) -> Photo:
    """Decode, turn upright, resize; an image that is our `own` may be decoded at reduced size."""
    stored = image.size
    if 0 in stored:
        raise ImageError("no pixels")
    enough = [round(_REDUCING_GAP * side) for side in view_size(*stored, resolution, patch)]
    with decoder_errors():
        note = _left_out(image)
        # Pillow turns TIFF while it loads, and drops the tag; PNG may end with its EXIF block.
        already = orientation(getattr(image, "tag_v2", {}))
        reduced = image.draft(None, (enough[0], enough[1])) if own else None
        image.load()
    tags = exif_tags(image)
    turned = orientation(tags)
    upright = turn_upright(image, turned)
    width, height = turn_sides(stored, turned) if reduced else upright.size
    content = turn_sides(reduced[1][2:], turned) if reduced else (float(width), float(height))
    pixels, opaque = _resize(
        to_rgb(upright),
        view_size(width, height, resolution, patch),
        turn_content(content, upright.size, turned),
    )
    turned = max(turned, already)
    focal = focal_lengths(tags, *turn_sides((width, height), turned))
    return Photo(pixels, opaque, width, height, focal and turn_sides(focal, turned), note)


def _left_out(image: Image.Image) -> str:
    """What the file holds besides its first frame; further images of an MPO are no loss."""
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return ""
    return f"{'several pages' if image.format == 'TIFF' else 'animation'}: first one used"


def to_rgb(image: Image.Image) -> Image.Image:
    """Mode RGB, or RGBA where the photo has transparency; ImageError for unknown pixel formats."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(_from_16_bits(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(_from_float(np.asarray(image))).convert("RGB")
    if image.mode not in _MODES:
        raise ImageError(f"pixel format {image.mode} is not supported", "save it with 8 or 16 bits")
    with decoder_errors():
        return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _resize(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Resize the content of `box` and lay it over BACKGROUND; also where it is not transparent."""
    small = image.resize(size, Image.Resampling.LANCZOS, box, _REDUCING_GAP)
    if small.mode == "RGB":
        return np.asarray(small), np.ones(size[::-1], bool)
    # An average, because LANCZOS rings: any pixel that shows something counts.
    alpha = image.getchannel("A").resize(size, Image.Resampling.BOX, box)
    opaque = np.asarray(alpha) > 0
    background = Image.new("RGBA", size, (*BACKGROUND, 255))
    return np.asarray(Image.alpha_composite(background, small).convert("RGB")), opaque


def _from_array(values: np.ndarray) -> Image.Image:
    """A PIL image of (h, w), (h, w, 3) or (h, w, 4) values; uint8, uint16 or floats in [0, 1]."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))):
        raise ImageError(f"array of shape {values.shape}, expected (h, w), (h, w, 3) or (h, w, 4)")
    if values.size == 0:
        raise ImageError("no pixels")
    if values.dtype == np.uint16:
        values = _from_16_bits(values)
    elif np.issubdtype(values.dtype, np.floating):
        values = _from_float(values)
    elif values.dtype != np.uint8:
        raise ImageError(f"array of {values.dtype}, expected uint8, uint16 or float in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(values))


def _from_16_bits(values: UInt16[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_float(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    low, high = values.min(), values.max()
    if not (low >= -_FLOAT_SLACK and high <= 1 + _FLOAT_SLACK):  # not: NaN fails every comparison
        raise ImageError(f"float pixels from {low:g} to {high:g}, expected 0 to 1")
    return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
