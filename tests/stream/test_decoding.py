"""Pictures of a stream: no more is decoded than is needed, and nothing that breaks the limits."""

import contextlib
import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ffsplat.errors import ImageError
from ffsplat.stream.decoding import MAX_SCANS, RefusedImage, decode, from_pixels
from ffsplat.stream.frame import DROPPED


def smooth(width: int = 640, height: int = 480, mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT", b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def jpeg_with_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = encoded(smooth(16, 16))
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", height, width) + data[start + 4 :]


def reason_of(data: bytes, **options) -> str:
    with pytest.raises(RefusedImage) as caught:
        decode(data, resolution=128, **options)
    assert isinstance(caught.value, ImageError)
    assert caught.value.reason in DROPPED
    return caught.value.reason


def test_a_small_picture_comes_back_as_pillow_reads_it():
    data = encoded(smooth(200, 150), quality=90)
    decoded = decode(data, resolution=128)
    np.testing.assert_array_equal(decoded.pixels, np.asarray(Image.open(io.BytesIO(data))))
    assert (decoded.scale, decoded.width, decoded.height) == ((1, 1), 200, 150)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("PNG", {}),
                                               ("WEBP", {"quality": 95})])  # fmt: skip
@pytest.mark.parametrize(("resolution", "factor"), [(504, 1), (128, 2), (80, 4)])
def test_a_large_picture_is_the_average_of_blocks(kind, options, resolution, factor):
    data = encoded(smooth(), kind, **options)
    decoded = decode(data, resolution=resolution)
    whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)
    assert decoded.scale == (factor, factor)
    assert decoded.pixels.shape == (480 // factor, 640 // factor, 3)
    blocks = whole.reshape(480 // factor, factor, 640 // factor, factor, 3).mean((1, 3))
    assert np.abs(decoded.pixels - blocks).mean() < 1


def test_what_remains_is_enough_for_the_network_whatever_the_size():
    for width in range(100, 3000, 97):
        decoded = from_pixels(np.zeros((90, width, 3), np.uint8), resolution=100)
        assert decoded.pixels.shape[1] >= min(width, 200)
        assert decoded.pixels.shape[1] < 400


def test_a_jpeg_of_odd_size_keeps_its_scale():
    decoded = decode(encoded(smooth(1001, 757)), resolution=128)
    assert decoded.scale == (2, 2)  # of 3 that would be enough, the transform knows 1, 2, 4, 8
    assert decoded.pixels.shape == (379, 501, 3)


def test_pixels_pass_untouched_where_they_are_few():
    pixels = np.asarray(smooth(200, 150))
    assert from_pixels(pixels, resolution=128).pixels is pixels


def test_pixels_are_averaged_where_they_are_many():
    pixels = np.asarray(smooth())
    decoded = from_pixels(pixels, resolution=64)
    blocks = pixels.reshape(96, 5, 128, 5, 3).mean((1, 3))
    assert decoded.scale == (5, 5)
    assert np.abs(decoded.pixels - blocks).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_other_pixel_formats_show_the_same_as_their_colors(mode):
    image = smooth(200, 150, mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(image, "PNG"), resolution=128).pixels, expected)


def test_cmyk_jpeg_is_read():
    decoded = decode(encoded(smooth(200, 150, "CMYK"), quality=95), resolution=128)
    assert np.abs(decoded.pixels - np.asarray(smooth(200, 150), np.float64)).mean() < 6


def test_16_bits_are_scaled_and_not_cut_off():
    image = Image.fromarray(np.full((20, 20), 257 * 100, np.uint16))
    assert (decode(encoded(image, "PNG"), resolution=128).pixels == 100).all()


def test_transparent_pictures_lie_on_white():
    image = Image.new("RGBA", (300, 300), (10, 20, 30, 0))
    assert (decode(encoded(image, "PNG"), resolution=32).pixels == 255).all()


def test_the_first_picture_of_an_animation_is_used():
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    for kind in ("PNG", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert (decode(data, resolution=32).pixels == (255, 0, 0)).all()


def test_the_orientation_tag_turns_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(smooth(64, 48), exif=exif), resolution=64).pixels.shape == (48, 64, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"hello, this is no picture at all",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"GIF89a" + bytes(50),
        encoded(smooth(40, 30), "BMP"),
        encoded(smooth(40, 30), "TIFF"),
        b"\xff\xd8\xff" + encoded(smooth(40, 30), "BMP"),
        encoded(smooth())[:3000],
        encoded(smooth(), "PNG")[:3000],
        encoded(smooth(), "WEBP")[:300],
        png_header(640, 480),
        png_header(0, 480),
        encoded(Image.new("RGB", (1, 1))),
        encoded(Image.new("RGB", (1, 1)), "PNG"),
        encoded(Image.new("RGB", (5000, 2)), "PNG"),
    ],
)
def test_what_is_no_whole_picture_is_undecodable(data):
    assert reason_of(data) == "undecodable"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "data",
    [
        jpeg_with_size(65535, 65535),
        jpeg_with_size(65500, 2000),
        png_header(65535, 65535),
        png_header(2**31 - 1, 2**31 - 1),
        png_header(10000, 10000),
    ],
)
def test_what_claims_too_many_pixels_is_too_large(data):
    assert reason_of(data) == "too_large"


def test_a_warning_of_pillow_that_is_an_error_is_too_large_as_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason_of(png_header(10000, 10000)) == "too_large"


def test_too_many_bytes_are_too_large_whatever_they_are():
    assert reason_of(bytes(1001), max_bytes=1000) == "too_large"
    assert reason_of(encoded(smooth()), max_megapixels=0.3) == "too_large"


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded():
    data = encoded(smooth(64, 48), progressive=True)
    start = data.rindex(b"\xff\xda")
    many = data[:start] + data[start:-2] * (MAX_SCANS + 1) + data[-2:]
    assert reason_of(many) == "undecodable"
    assert decode(data, resolution=32).pixels.shape == (48, 64, 3)


def test_threads_decode_the_same_as_one():
    pictures = [encoded(smooth(600 + 8 * i, 400)) for i in range(8)]
    alone = [decode(data, resolution=64).pixels for data in pictures]
    together: dict[int, list[np.ndarray]] = {}

    def work(i: int) -> None:
        together[i] = [decode(data, resolution=64).pixels for data in pictures]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in together.values():
        for one, other in zip(mine, alone, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(together) == 4


GOOD = [encoded(smooth(64, 48), kind) for kind in ("JPEG", "PNG", "WEBP")]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    st.integers(0, 4000),
)
def test_damage_is_refused_or_decoded_but_never_raises_anything_else(data, changes, length):
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    with contextlib.suppress(RefusedImage):
        assert decode(bytes(damaged[:length]), resolution=32, max_megapixels=1).pixels.size
