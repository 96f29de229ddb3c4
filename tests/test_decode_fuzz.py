"""Whatever bytes a file holds, reading it gives a photo or an ImageError."""

import io
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, features

from ffsplat.errors import ImageError
from ffsplat.images import load_views

EXAMPLES = int(os.environ.get("FFSPLAT_FUZZ_EXAMPLES", "60"))


def encoded(kind, image, **options):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 28
    if kind not in ("GIF", "BMP", "JPEG2000") and not options:
        options["exif"] = exif.tobytes()
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seeds():
    noise = np.random.default_rng(0).integers(0, 256, (12, 20, 4), np.uint8)
    color, clear = Image.fromarray(noise[..., :3]), Image.fromarray(noise)
    kinds = ["JPEG", "PNG", "GIF", "BMP", "TIFF"]
    kinds += [
        kind
        for kind, feature in (("WEBP", "webp"), ("AVIF", "avif"), ("JPEG2000", "jpg_2000"))
        if features.check(feature)
    ]
    files = {kind: encoded(kind, color) for kind in kinds}
    files["packed"] = encoded("TIFF", color, compression="tiff_lzw")
    files["palette"] = encoded("PNG", color.quantize(16))
    files["transparent"] = encoded("PNG", clear)
    files["ink"] = encoded("JPEG", color.convert("CMYK"))
    files["deep"] = encoded("TIFF", Image.fromarray(noise[..., 0].astype(np.uint16) * 257))
    files["float"] = encoded("TIFF", Image.fromarray(noise[..., 0].astype(np.float32) / 255))
    return files


SEEDS = seeds()


@st.composite
def damaged(draw, kind):
    """A valid file with some bytes changed, most often near its header, cut, or with a tail."""
    data = bytearray(SEEDS[kind])
    near = st.integers(0, min(len(data), 160) - 1)
    positions = st.one_of(near, st.integers(0, len(data) - 1))
    for position in draw(st.lists(positions, max_size=8)):
        data[position] = draw(st.integers(0, 255))
    cut = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    return bytes(data[:cut]) + draw(st.binary(max_size=8))


def is_read_or_refused(path, content):
    path.write_bytes(content)
    try:
        loaded = load_views([path], resolution=16, patch=8, on_error="fail", max_megapixels=1)
    except ImageError:
        return
    pixels = loaded.views.pixels
    assert max(pixels.shape[1:3]) == 16
    assert pixels.min() >= 0
    assert pixels.max() <= 1


@pytest.mark.parametrize("kind", SEEDS)
def test_damaged_photos(kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "a"
    is_read_or_refused(path, SEEDS[kind])

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(kind))
    def check(content):
        is_read_or_refused(path, content)

    check()


@settings(max_examples=5 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([data[:16] for data in SEEDS.values()] + [b""]), st.binary(max_size=400))
def test_random_bytes(tmp_path_factory, magic, content):
    is_read_or_refused(tmp_path_factory.getbasetemp() / "random", magic + content)
