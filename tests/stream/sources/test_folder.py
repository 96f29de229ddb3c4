"""Photos as frames: order, times, upright pixels, and focal lengths from the EXIF block."""

import io
import logging

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from ffsplat.errors import ImageError
from ffsplat.stream.sources.folder import FolderSource


def photo(width: int = 80, height: int = 60) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height))


def with_focal(millimetres: int, orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    exif.get_ifd(IFD.Exif)[Base.FocalLengthIn35mmFilm] = millimetres
    return exif


def test_photos_come_in_natural_order_at_the_rate_given(tmp_path):
    for name in ("frame_10.jpg", "frame_2.jpg", "frame_1.jpg", "notes.txt"):
        photo().save(tmp_path / name, "JPEG")
    source = FolderSource(tmp_path, fps=4)
    frames = list(source)
    assert not source.live
    assert len(source) == 3
    assert [frame.name for frame in frames] == ["frame_1.jpg", "frame_2.jpg", "frame_10.jpg"]
    assert [frame.time_ns for frame in frames] == [0, 250_000_000, 500_000_000]
    assert [frame.number for frame in frames] == [0, 1, 2]


def test_an_upright_jpeg_goes_on_as_it_is(tmp_path):
    photo().save(tmp_path / "a.jpg")
    (frame,) = FolderSource(tmp_path)
    assert frame.image == (tmp_path / "a.jpg").read_bytes()
    assert frame.intrinsics is None


def test_other_formats_come_as_their_pixels(tmp_path):
    for name in ("a.png", "b.bmp", "c.tif"):
        photo().save(tmp_path / name)
    for frame in FolderSource(str(tmp_path / "*")):
        np.testing.assert_array_equal(frame.image, np.asarray(photo()))


def test_a_turned_photo_stands_upright(tmp_path):
    photo().save(tmp_path / "a.jpg", exif=with_focal(28, orientation=6), quality=95)
    (frame,) = FolderSource(tmp_path)
    stored = np.asarray(Image.open(io.BytesIO((tmp_path / "a.jpg").read_bytes())))
    np.testing.assert_array_equal(frame.image, np.rot90(stored, -1))
    focal = 28 * 100 / np.hypot(36, 24)  # the diagonal is 100 pixels
    np.testing.assert_allclose(frame.intrinsics, [[focal, 0, 30], [0, focal, 40], [0, 0, 1]])


def test_focal_lengths_are_in_pixels_of_the_picture_that_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("ffsplat.stream.sources.folder.MAX_SIDE", 40)
    photo().save(tmp_path / "a.jpg", exif=with_focal(28))
    photo().save(tmp_path / "b.png", exif=with_focal(28))
    whole, reduced = FolderSource(tmp_path)
    focal = 28 * 100 / np.hypot(36, 24)
    np.testing.assert_allclose(whole.intrinsics, [[focal, 0, 40], [0, focal, 30], [0, 0, 1]])
    assert reduced.image.shape == (30, 40, 3)
    np.testing.assert_allclose(reduced.intrinsics, np.diag([0.5, 0.5, 1]) @ whole.intrinsics)


def test_a_large_jpeg_is_decoded_here_because_a_stream_would_refuse_it(tmp_path, monkeypatch):
    photo().save(tmp_path / "a.jpg", quality=95)
    monkeypatch.setattr("ffsplat.stream.sources.folder.MAX_BYTES", 1000)
    (frame,) = FolderSource(tmp_path)
    assert np.abs(frame.image - np.asarray(photo()).astype(np.float64)).mean() < 2


def test_what_cannot_be_read_is_an_empty_frame_and_a_warning(tmp_path, caplog):
    (tmp_path / "a.jpg").write_bytes(b"hello")
    photo().save(tmp_path / "b.jpg")
    with caplog.at_level(logging.WARNING):
        frames = list(FolderSource(tmp_path))
    assert [frame.image[:2] for frame in frames] == [b"", b"\xff\xd8"]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == "cannot read a.jpg: not an image in a known format"


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="no images found"):
        FolderSource(tmp_path)


def test_closing_ends_the_iteration(tmp_path):
    for number in range(3):
        photo().save(tmp_path / f"{number}.jpg")
    with FolderSource(tmp_path) as source:
        frames = iter(source)
        next(frames)
    assert list(frames) == []
