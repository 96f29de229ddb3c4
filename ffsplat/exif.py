"""What a photo's EXIF block says about the camera: which way is up, and the focal length."""

import math
import struct
from collections.abc import Mapping
from typing import Any, TypeVar

from PIL import Image
from PIL.ExifTags import IFD, Base

T = TypeVar("T")

EXIF_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
)
"""What Pillow raises on a damaged EXIF block."""

FOV_DEGREES = (10.0, 150.0)
"""A field of view outside this range comes from a wrong EXIF block, not from an odd lens."""

CROPPED = 0.03
"""A photo whose aspect ratio differs by more from the one in its EXIF block has been cropped."""

FILM_DIAGONAL = math.hypot(36, 24)
"""Millimetres; a 35 mm equivalent keeps the diagonal field of view (CIPA DCG-001)."""

_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # EXIF 2.32, FocalPlaneResolutionUnit

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_tags(image: Image.Image) -> dict[int, Any]:
    """Every readable tag of the main and the EXIF directory; a damaged block gives fewer."""
    tags: dict[int, Any] = {}
    try:
        exif = image.getexif()
        tags.update(exif)
        tags.update(exif.get_ifd(IFD.Exif))
    except EXIF_ERRORS:
        return tags
    return tags


def orientation(tags: Mapping[int, Any]) -> int:
    """How the stored pixels are turned, 1 (upright) to 8; from 5 on the sides are swapped."""
    value = tags.get(Base.Orientation)
    return value if isinstance(value, int) and value in _TRANSPOSE else 1


def turn_upright(image: Image.Image, turned: int) -> Image.Image:
    """The image as it was seen, for an orientation of 1 to 8."""
    return image if turned == 1 else image.transpose(_TRANSPOSE[turned])


def turn_sides(sides: tuple[T, T], turned: int) -> tuple[T, T]:
    """A pair along the stored axes in the upright order, and the other way round."""
    return (sides[1], sides[0]) if turned >= 5 else sides


def turn_content(
    content: tuple[float, float], size: tuple[int, int], turned: int
) -> tuple[float, float, float, float]:
    """Box (left, top, right, bottom) of the content in an upright image of `size`.

    Before the turn the content began at the top left corner; `content` is its width and height,
    in the upright frame. A decoder that reduces by a factor fills its last row and column in part.
    """
    left = size[0] - content[0] if turned in (2, 3, 6, 7) else 0.0
    top = size[1] - content[1] if turned in (3, 4, 7, 8) else 0.0
    return left, top, left + content[0], top + content[1]


def focal_lengths(tags: Mapping[int, Any], width: int, height: int) -> tuple[float, float] | None:
    """Horizontal and vertical focal length in pixels of the stored photo, or None if unknown.

    From FocalLengthIn35mmFilm, else from FocalLength and the focal plane's resolution (EXIF 2.32).
    None where they are absent, give a field of view outside FOV_DEGREES, or the photo was cropped.
    """
    sides = max(width, height), min(width, height)
    exif_sides = _exif_sides(tags) or sides
    if abs(math.log(sides[0] / sides[1] * exif_sides[1] / exif_sides[0])) > CROPPED:
        return None
    scale = sides[0] / exif_sides[0]
    film = _number(tags, Base.FocalLengthIn35mmFilm)
    if film:
        focal_x = focal_y = film * math.hypot(width, height) / FILM_DIAGONAL
    else:
        unit = _MILLIMETRES.get(int(_number(tags, Base.FocalPlaneResolutionUnit)), 25.4)
        lens = _number(tags, Base.FocalLength) / unit
        per_unit_x = _number(tags, Base.FocalPlaneXResolution)
        per_unit_y = _number(tags, Base.FocalPlaneYResolution) or per_unit_x
        focal_x, focal_y = lens * per_unit_x * scale, lens * per_unit_y * scale
    if not focal_x or not focal_y:
        return None
    widest = 2 * math.degrees(math.atan(max(width / focal_x, height / focal_y) / 2))
    return (focal_x, focal_y) if FOV_DEGREES[0] <= widest <= FOV_DEGREES[1] else None


def _exif_sides(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    """Longer and shorter side when the photo was taken; software that turns it may swap them."""
    sides = _number(tags, Base.ExifImageWidth), _number(tags, Base.ExifImageHeight)
    return (max(sides), min(sides)) if all(sides) else None


def _number(tags: Mapping[int, Any], tag: int) -> float:
    """A positive, finite tag, else 0."""
    try:
        value = float(tags.get(tag, 0))
    except (TypeError, ValueError, ArithmeticError):
        return 0.0
    return value if 0 < value < math.inf else 0.0
