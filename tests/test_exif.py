"""Orientation and focal length, through the whole way from a file to views."""

import math

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from ffsplat.images import load_views, original_intrinsics

TURNED = {  # upright array from the stored one (EXIF 2.32, tag 0x0112)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def exif(orientation=1, **tags):
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    block.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base[name]: tags[name] for name in tags})
    return block.tobytes()  # as bytes, or the TIFF writer leaves out the second directory


def photo(height=30, width=44, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def fraction(value):
    return TiffImagePlugin.IFDRational(value)


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_gives_the_pixels_of_the_upright_photo(tmp_path, orientation, extension):
    options = {"lossless": True} if extension == "webp" else {}
    path = tmp_path / f"turned.{extension}"
    Image.fromarray(photo()).save(path, exif=exif(orientation), **options)
    Image.fromarray(TURNED[orientation](photo()).copy()).save(tmp_path / "upright.png")
    turned = load_views([path], resolution=32).views
    upright = load_views([tmp_path / "upright.png"], resolution=32).views
    assert np.array_equal(turned.pixels, upright.pixels)
    assert turned.sources[0].width == upright.sources[0].width
    assert np.array_equal(
        turned.sources[0].original_from_view, upright.sources[0].original_from_view
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_keeps_the_map_exact_in_every_orientation(tmp_path, orientation):
    """1003 is no multiple of 8, so the decoder's last column lies on another side when turned."""
    u, v = np.meshgrid(np.arange(1003) / 1003, np.arange(517) / 517)
    stored = np.repeat((200 * u + 50 * v).astype(np.uint8)[..., None], 3, -1)
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif(orientation), quality=95)
    views = load_views([tmp_path / "a.jpg"], resolution=32, patch=16).views
    upright = TURNED[orientation](stored)
    assert (views.sources[0].height, views.sources[0].width) == upright.shape[:2]
    down, across = views.pixels.shape[1:3]
    expected = np.asarray(
        Image.fromarray(upright.copy()).resize((across, down), Image.Resampling.BOX), float
    )
    # A shift by one pixel of the reduced image would change the ramp by 200 / 125 = 1.6.
    assert np.abs(views.pixels[0] * 255 - expected)[2:-2, 2:-2].mean() < 0.6


@pytest.mark.parametrize("orientation", [0, 9, -3])
def test_impossible_orientations_are_ignored(tmp_path, orientation):
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation & 0xFFFF
    Image.fromarray(photo()).save(tmp_path / "a.png", exif=block)
    Image.fromarray(photo()).save(tmp_path / "b.png")
    views = load_views([tmp_path / "a.png", tmp_path / "b.png"], resolution=32).views
    assert np.array_equal(views.pixels[0], views.pixels[1])


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_focal_length_survives_turning_and_resizing(tmp_path, orientation, extension):
    """A point projected with the camera's own intrinsics lands where the views' intrinsics say.

    The stored photo is 440x300 with 20 mm behind 10 and 12.5 pixels a millimetre, so its focal
    lengths are 200 and 250 pixels.
    """
    tags = {
        "FocalLength": fraction(20),
        "FocalPlaneXResolution": fraction(100),
        "FocalPlaneYResolution": fraction(125),
        "FocalPlaneResolutionUnit": 3,
    }
    Image.fromarray(photo(300, 440)).save(
        tmp_path / f"a.{extension}", exif=exif(orientation, **tags)
    )
    focal_x, focal_y, width, height = 200, 250, 440, 300
    if orientation >= 5:
        focal_x, focal_y, width, height = focal_y, focal_x, height, width
    views = load_views([tmp_path / f"a.{extension}"], resolution=64, patch=16).views
    point = np.array([0.3, -0.2, 1.7])
    in_original = [
        focal_x * point[0] / point[2] + width / 2,
        focal_y * point[1] / point[2] + height / 2,
        1,
    ]
    in_view = views.intrinsics[0] @ point
    mapped = views.sources[0].original_from_view @ (in_view / in_view[2])
    assert np.allclose(mapped, in_original, atol=1e-3)
    again = original_intrinsics(views, views.intrinsics)[0] @ point
    assert np.allclose(again / again[2], in_original, atol=1e-3)


def focal_of(tmp_path, size=(360, 240), **tags):
    """Focal lengths in pixels of the original, NaN if unknown."""
    Image.new("RGB", size).save(tmp_path / "a.jpg", exif=exif(**tags))
    views = load_views([tmp_path / "a.jpg"], resolution=64).views
    return np.diag(original_intrinsics(views, views.intrinsics)[0])[:2]


def test_the_35_mm_equivalent_keeps_the_diagonal(tmp_path):
    assert np.allclose(focal_of(tmp_path, FocalLengthIn35mmFilm=36), 360)
    # 4:3 of the same diagonal angle: 35 mm film has a diagonal of 43.27 mm.
    expected = 26 * math.hypot(400, 300) / math.hypot(36, 24)
    assert np.allclose(focal_of(tmp_path, (400, 300), FocalLengthIn35mmFilm=26), expected)


@pytest.mark.parametrize(("unit", "per_unit"), [(2, 254), (3, 100), (4, 10), (5, 0.01), (9, 254)])
def test_focal_plane_units(tmp_path, unit, per_unit):
    focal = focal_of(
        tmp_path,
        FocalLength=fraction(20),
        FocalPlaneXResolution=fraction(per_unit),
        FocalPlaneResolutionUnit=unit,
    )
    assert np.allclose(focal, 200, rtol=1e-4)


def test_a_photo_that_was_shrunk_later_has_a_shorter_focal_length(tmp_path):
    tags = {
        "FocalLength": fraction(20),
        "FocalPlaneXResolution": fraction(1000),
        "FocalPlaneResolutionUnit": 3,
    }
    small = focal_of(tmp_path, ExifImageWidth=3600, ExifImageHeight=2400, **tags)
    assert np.allclose(small, 200)
    turned_by_software = focal_of(tmp_path, ExifImageWidth=2400, ExifImageHeight=3600, **tags)
    assert np.allclose(turned_by_software, 200)
    cropped = focal_of(tmp_path, ExifImageWidth=3600, ExifImageHeight=3600, **tags)
    assert np.isnan(cropped).all()


@pytest.mark.parametrize(
    "tags",
    [
        {"FocalLengthIn35mmFilm": 0},
        {"FocalLengthIn35mmFilm": 3},  # 164 degrees
        {"FocalLengthIn35mmFilm": 300},  # 6.9 degrees
        {"FocalLength": fraction(20)},
        {"FocalLength": TiffImagePlugin.IFDRational(1, 0), "FocalPlaneXResolution": fraction(99)},
        {"FocalLength": fraction(20), "FocalPlaneXResolution": TiffImagePlugin.IFDRational(0, 0)},
    ],
)
def test_implausible_values_are_ignored(tmp_path, tags):
    assert np.isnan(focal_of(tmp_path, **tags)).all()


def test_a_damaged_block_does_no_harm(tmp_path):
    for i, junk in enumerate(
        (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"x" * 99)
    ):
        Image.fromarray(photo()).save(tmp_path / f"{i}.jpg", exif=junk, quality=95)
    loaded = load_views([tmp_path], resolution=32)
    assert len(loaded.views) == 3
    assert np.isnan(loaded.views.intrinsics).all()
