"""Every kind of photo file, and every kind of file that only looks like one."""

import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from ffsplat import decode
from ffsplat.errors import ImageError
from ffsplat.images import load_views

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
needs_jpeg2000 = pytest.mark.skipif(
    not features.check("jpg_2000"), reason="Pillow without JPEG2000"
)


def picture(height=32, width=48):
    """A smooth picture in colour."""
    v, u = np.mgrid[0:height, 0:width]
    return np.stack([255 * u / width, 255 * v / height, 128 + 0 * u], -1).astype(np.uint8)


def grey():
    return Image.fromarray(picture()).convert("L")


def pixels_of(path, **options):
    """Pixels in 0..255 at the file's own size."""
    loaded = load_views([path], resolution=48, patch=1, on_error="fail", **options)
    return loaded.views.pixels[0] * 255


def refusal(path, **options):
    with pytest.raises(ImageError) as caught:
        load_views([path], on_error="fail", **options)
    return caught.value


def png(width, height, body=b"", depth=8, color=2):
    """A PNG whose header says what it likes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("a.png", 0),
        ("a.bmp", 0),
        ("a.tif", 0),
        ("a.gif", 8),
        ("a.jpg", 3),
        ("a.webp", 3),
        pytest.param("a.avif", 3, marks=needs_avif),
        pytest.param("a.jp2", 3, marks=needs_jpeg2000),
    ],
)
def test_formats(tmp_path, name, tolerance):
    Image.fromarray(picture()).save(tmp_path / name)
    assert np.abs(pixels_of(tmp_path / name) - picture()).mean() <= tolerance
    wrong = (tmp_path / name).rename(tmp_path / "wrong.txt")
    assert np.abs(pixels_of(wrong) - picture()).mean() <= tolerance


@pytest.mark.parametrize(
    ("mode", "extension", "tolerance"),
    [
        ("CMYK", "jpg", 6),
        ("CMYK", "tif", 6),
        ("RGBA", "png", 0),
        ("YCbCr", "tif", 2),
    ],
)
def test_colour_modes_match_their_rgb_twin(tmp_path, mode, extension, tolerance):
    Image.fromarray(picture()).convert(mode).save(tmp_path / f"a.{extension}")
    assert np.abs(pixels_of(tmp_path / f"a.{extension}") - picture()).mean() <= tolerance


def test_palette(tmp_path):
    Image.fromarray(picture()).quantize(256).save(tmp_path / "a.png")
    assert np.abs(pixels_of(tmp_path / "a.png") - picture()).mean() <= 4


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_modes_match_their_rgb_twin(tmp_path, mode):
    image = grey().convert(mode)
    image.save(tmp_path / "a.png")
    twin = np.asarray(image.convert("RGB"), float)
    assert np.abs(pixels_of(tmp_path / "a.png") - twin).mean() <= 1


@pytest.mark.parametrize("name", ["a.png", "little.tif", "big.tif"])
def test_16_bit_grey_is_scaled(tmp_path, name):
    values = np.arange(48 * 32, dtype=np.uint16).reshape(32, 48) * 42
    image = Image.fromarray(values.astype(">u2") if name == "big.tif" else values)
    image.save(tmp_path / name)
    assert np.abs(pixels_of(tmp_path / name)[..., 0] - values / 257).max() <= 0.51


def test_16_bit_colour(tmp_path):
    wide = (picture().astype(">u2") * 257).reshape(32, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    (tmp_path / "a.png").write_bytes(png(48, 32, zlib.compress(rows), depth=16))
    assert np.abs(pixels_of(tmp_path / "a.png") - picture()).max() <= 1


def test_float_tiff_in_the_unit_range_is_read_and_others_are_refused(tmp_path):
    ramp = np.linspace(0, 1, 48 * 32, dtype=np.float32).reshape(32, 48)
    Image.fromarray(ramp).save(tmp_path / "ramp.tif")
    assert np.abs(pixels_of(tmp_path / "ramp.tif")[..., 1] - 255 * ramp).max() <= 0.51
    for name, value in (("metres.tif", 4000.0), ("nan.tif", np.nan)):
        Image.fromarray(np.full((8, 8), value, np.float32)).save(tmp_path / name)
        assert "expected 0 to 1" in str(refusal(tmp_path / name))


def test_integers_of_32_bits_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 7, np.int32)).save(tmp_path / "a.tif")
    assert "pixel format I" in str(refusal(tmp_path / "a.tif"))


def test_transparent_pixels_are_invalid_and_hidden_colours_do_not_leak(tmp_path):
    rgba = np.dstack([np.full((64, 64, 3), (255, 0, 0), np.uint8), np.zeros((64, 64), np.uint8)])
    rgba[:, 32:, 3] = 255
    rgba[:32, 32:, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    views = load_views([tmp_path / "a.png"], resolution=16, patch=8).views
    assert not views.valid[0, :, :7].any()
    assert views.valid[0, :, 9:].all()
    assert (views.pixels[0, :, :7] == 0).all()
    assert np.allclose(views.pixels[0, 10:, 10:], (1, 0, 0), atol=0.01)
    over_white = 1 - 128 / 255
    assert np.allclose(views.pixels[0, :6, 10:], (1, over_white, over_white), atol=0.01)


def test_transparent_palette_and_key_colour(tmp_path):
    palette = Image.fromarray(np.repeat([[0, 1]], 32, 0).repeat(16, 1).astype(np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.png", transparency=0)
    key = np.zeros((32, 32, 3), np.uint8)
    key[:, 16:] = (0, 0, 255)
    Image.fromarray(key).save(tmp_path / "key.png", transparency=(0, 0, 0))
    views = load_views([tmp_path / "palette.png", tmp_path / "key.png"], resolution=32).views
    for view in range(2):
        assert not views.valid[view, :, :16].any()
        assert views.valid[view, :, 16:].all()
        assert np.allclose(views.pixels[view, :, 16:], (0, 0, 1))


@pytest.mark.parametrize("extension", ["gif", "webp", "png", "tif"])
def test_of_several_frames_the_first_is_used_with_one_warning(tmp_path, extension):
    first, second = Image.fromarray(picture()), Image.fromarray(picture()[::-1])
    path = tmp_path / f"a.{extension}"
    first.save(path, save_all=True, append_images=[second, first])
    loaded = load_views([path], resolution=48, patch=1)
    assert len(loaded.warnings) == 1
    assert "first one used" in loaded.warnings[0]
    assert path.name in loaded.warnings[0]
    assert np.abs(loaded.views.pixels[0] * 255 - picture()).mean() < 8


def test_a_second_image_inside_a_phone_photo_is_no_animation(tmp_path):
    image = Image.fromarray(picture())
    image.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[image])
    assert not load_views([tmp_path / "a.jpg"]).warnings


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"no photo", "not an image in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript, not a photo"),
        (b"%PDF-1.7\n", "PDF, not a photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, not a photo"),
        (b"\xff\xd8\xff\xe0nothing", "truncated file"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG header"),
        (png(48, 32, b"junk"), "damaged file"),
        (png(48, 32, zlib.compress(b"\0" * 900)), "truncated file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_photo_is_refused_with_its_reason(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    assert reason in str(refusal(tmp_path / "a.jpg"))


def test_ghostscript_is_never_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    grey().save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    assert "PostScript" in str(refusal(tmp_path / "a.jpg"))


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "bmp", "gif", "tif", "jp2", "avif"])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path, extension, part):
    if not features.check({"jp2": "jpg_2000", "avif": "avif"}.get(extension, "jpg")):
        pytest.skip(f"Pillow without {extension}")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{extension}")
    whole = (tmp_path / f"whole.{extension}").read_bytes()
    path = tmp_path / f"a.{extension}"
    path.write_bytes(whole[: int(part * len(whole))])
    assert any(word in str(refusal(path)) for word in ("truncated", "damaged"))


@pytest.mark.parametrize(
    ("side", "reason", "hint"),
    [
        (9000, "9000x9000 is 81 megapixels, limit 64", "--max-megapixels"),
        (2**31 - 1, "more than 179 megapixels", "shrink it"),
    ],
)
def test_bombs_are_refused_by_their_header(tmp_path, side, reason, hint, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    (tmp_path / "a.png").write_bytes(png(side, side, zlib.compress(b"\0" * 99)))
    error = refusal(tmp_path / "a.png")
    assert reason in str(error)
    assert hint in error.hint
    assert ("--max-megapixels" in error.hint) == (side == 9000)


def test_the_size_limit_can_be_moved(tmp_path):
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    assert "limit 0.05" in str(refusal(tmp_path / "a.png", max_megapixels=0.05))
    assert pixels_of(tmp_path / "a.png", max_megapixels=0.06).shape == (32, 48, 3)


def test_large_files_are_refused_before_they_are_read(tmp_path):
    with (tmp_path / "a.webp").open("wb") as file:
        file.truncate(decode.MAX_FILE_BYTES + 1)
    assert "larger than 1024 MB" in str(refusal(tmp_path / "a.webp"))


def test_the_preview_of_a_raw_photo_does_not_pass_for_it(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.tif", tiffinfo={254: 1})
    assert "raw photo" in str(refusal(tmp_path / "a.tif"))


def test_heic_without_its_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "heic_readable", lambda: False)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    error = refusal(tmp_path / "a.jpg")
    assert "HEIC" in str(error)
    assert error.hint == 'install the reader with: pip install "ffsplat[heic]"'


def test_heic(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.heic", quality=95)
    expected = Image.fromarray(picture(64, 96)).resize((48, 32), Image.Resampling.BOX)
    assert np.abs(pixels_of(tmp_path / "a.heic") - np.asarray(expected)).mean() < 4


def test_special_files_are_named_and_do_not_hang(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.jpg"))
        Image.new("RGB", (16, 16)).save(tmp_path / "z.jpg")
        loaded = load_views([tmp_path])
    assert {one.name: one.reason for one in loaded.skipped} == {
        "dangling.jpg": "broken symbolic link",
        "device.jpg": "not a regular file",
        "folder.jpg": "a folder, not a file",
        "loop.jpg": "symbolic link loop",
        "pipe.jpg": "not a regular file",
        "s.jpg": "not a regular file",
    }


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (16, 16)).save(path)
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser reads everything
        denied = PermissionError(13, "Permission denied")
        monkeypatch.setattr(type(path), "open", lambda *_: (_ for _ in ()).throw(denied))
    assert "permission denied" in str(refusal(path))


def test_images_come_without_torch():
    code = "import sys, ffsplat.images; assert not {'torch', 'numba', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(decode.__file__).parents[1])


def test_pillow_does_not_talk_on_the_terminal(tmp_path, recwarn):
    (tmp_path / "a.png").write_bytes(png(10_000, 10_000))  # more than where Pillow starts to warn
    assert "100 megapixels" in str(refusal(tmp_path / "a.png"))
    assert not recwarn.list
