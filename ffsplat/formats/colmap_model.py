"""A COLMAP model as arrays, and the bytes of its three files, binary and as text.

Source: colmap/colmap, doc/format.rst and src/colmap/scene/reconstruction_io.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import pack

import numpy as np
from jaxtyping import Float64, Int64, UInt8

UNKNOWN_ERROR = -1.0
"""What COLMAP writes as the reprojection error of a point that was never measured."""

PINHOLE = 1
_POINT2D = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
_POINT3D = np.dtype(
    [("id", "<u8"), ("place", "<f8", 3), ("color", "u1", 3), ("error", "<f8"), ("sightings", "<u8")]
)
_SIGHTING = np.dtype([("image", "<u4"), ("place", "<u4")])


@dataclass(frozen=True, eq=False)
class Sightings:
    """Which view (rising) sees which point where, in pixels of the view."""

    views: Int64[np.ndarray, " s"]
    points: Int64[np.ndarray, " s"]
    pixels: Float64[np.ndarray, "s 2"]


@dataclass(frozen=True, eq=False)
class Model:
    """Pinhole cameras, posed views of them, and coloured points; numbers in files are from 1.

    `lenses` holds width, height, fx, fy, cx, cy; `lens_of` a lens a view; poses are
    camera_from_world as (w, x, y, z) and a translation. Colours are bytes.
    """

    lenses: Float64[np.ndarray, "c 6"]
    lens_of: Int64[np.ndarray, " v"]
    quaternions_wxyz: Float64[np.ndarray, "v 4"]
    translations: Float64[np.ndarray, "v 3"]
    names: tuple[str, ...]
    points: Float64[np.ndarray, "n 3"]
    colors: UInt8[np.ndarray, "n 3"]
    sightings: Sightings

    @property
    def places(self) -> Int64[np.ndarray, " s"]:
        """Of each sighting, its number within its view, from 0."""
        views = self.sightings.views
        return np.arange(len(views)) - np.searchsorted(views, views)

    def seen(self, view: int) -> slice:
        """The sightings of one view."""
        start, stop = np.searchsorted(self.sightings.views, [view, view + 1])
        return slice(int(start), int(stop))


def binary_files(model: Model) -> dict[str, bytes]:
    """The content of cameras.bin, images.bin and points3D.bin, by name."""
    cameras = [pack("<Q", len(model.lenses))]
    for number, (width, height, *lens) in enumerate(model.lenses.tolist(), 1):
        cameras.append(pack("<IiQQ4d", number, PINHOLE, int(width), int(height), *lens))
    images = [pack("<Q", len(model.names))]
    for view, name in enumerate(model.names):
        seen = model.seen(view)
        rows = np.empty(seen.stop - seen.start, _POINT2D)
        rows["xy"] = model.sightings.pixels[seen]
        rows["point"] = model.sightings.points[seen] + 1
        pose = *model.quaternions_wxyz[view], *model.translations[view]
        images.append(pack("<I7dI", view + 1, *pose, model.lens_of[view] + 1))
        images += [name.encode(), b"\0", pack("<Q", len(rows)), rows.tobytes()]
    return {
        "cameras.bin": b"".join(cameras),
        "images.bin": b"".join(images),
        "points3D.bin": pack("<Q", len(model.points)) + _binary_points(model),
    }


def _binary_points(model: Model) -> bytes:
    """Records of unequal length, laid out at once: a fixed part, then the sightings."""
    count = np.bincount(model.sightings.points, minlength=len(model.points))
    fixed = np.empty(len(model.points), _POINT3D)
    fixed["id"] = np.arange(1, len(fixed) + 1)
    fixed["place"], fixed["color"], fixed["error"] = model.points, model.colors, UNKNOWN_ERROR
    fixed["sightings"] = count
    size = _POINT3D.itemsize + _SIGHTING.itemsize * count
    starts = np.cumsum(size) - size
    content = np.empty(int(size.sum()), np.uint8)
    content[starts[:, None] + np.arange(_POINT3D.itemsize)] = _as_bytes(fixed)
    order = np.argsort(model.sightings.points, kind="stable")
    tracks = np.empty(len(order), _SIGHTING)
    tracks["image"], tracks["place"] = model.sightings.views[order] + 1, model.places[order]
    points = model.sightings.points[order]
    before = np.arange(len(order)) - np.searchsorted(points, points)
    at = starts[points] + _POINT3D.itemsize + _SIGHTING.itemsize * before
    content[at[:, None] + np.arange(_SIGHTING.itemsize)] = _as_bytes(tracks)
    return content.tobytes()


def _as_bytes(rows: np.ndarray) -> UInt8[np.ndarray, "n size"]:
    return rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)


def text_files(model: Model) -> dict[str, bytes]:
    """The content of cameras.txt, images.txt and points3D.txt; numbers keep every bit."""
    contents = {
        "cameras.txt": _text_cameras(model),
        "images.txt": _text_images(model),
        "points3D.txt": _text_points(model),
    }
    return {name: "".join(f"{line}\n" for line in rows).encode() for name, rows in contents.items()}


def _text_cameras(model: Model) -> Iterator[str]:
    yield "# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]"
    for number, (width, height, *lens) in enumerate(model.lenses.tolist(), 1):
        yield f"{number} PINHOLE {int(width)} {int(height)} {_words(lens)}"


def _text_images(model: Model) -> Iterator[str]:
    yield "# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
    yield "# POINTS2D[] as X Y POINT3D_ID"
    for view, name in enumerate(model.names):
        pose = [*model.quaternions_wxyz[view].tolist(), *model.translations[view].tolist()]
        yield f"{view + 1} {_words(pose)} {model.lens_of[view] + 1} {name}"
        seen = model.seen(view)
        pixels, points = model.sightings.pixels[seen], model.sightings.points[seen] + 1
        rows = zip(pixels.tolist(), points.tolist(), strict=True)
        yield " ".join(f"{x!r} {y!r} {point}" for (x, y), point in rows)


def _text_points(model: Model) -> Iterator[str]:
    yield "# POINT3D_ID X Y Z R G B ERROR TRACK[] as IMAGE_ID POINT2D_IDX"
    order = np.argsort(model.sightings.points, kind="stable")
    ends = np.cumsum(np.bincount(model.sightings.points, minlength=len(model.points)))
    views, places = (model.sightings.views[order] + 1).tolist(), model.places[order].tolist()
    start = 0
    for row, (place, color) in enumerate(
        zip(model.points.tolist(), model.colors.tolist(), strict=True)
    ):
        end = int(ends[row])
        track = zip(views[start:end], places[start:end], strict=True)
        seen = " ".join(f"{view} {number}" for view, number in track)
        yield f"{row + 1} {_words(place)} {_words(color)} {UNKNOWN_ERROR} {seen}".rstrip()
        start = end


def _words(values: list[float] | list[int]) -> str:
    return " ".join(map(repr, values))
