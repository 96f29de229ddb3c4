"""Clips as parts: what goes in comes out, and what is said is checked before it is believed."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from data.shards import ShardError, decode_clip, encode_clip
from data.shards.codec import META, TEACHERS


def changed(parts: dict[str, bytes], **entries) -> dict[str, bytes]:
    """The parts with some entries of the JSON replaced."""
    return parts | {META: json.dumps(json.loads(parts[META]) | entries).encode()}


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_a_clip_comes_back(make_clip, same, image_format):
    clip = make_clip()
    parts = encode_clip(clip, image_format)
    assert f"0001.image.{image_format}" in parts
    same(decode_clip("a", parts), clip)


def test_a_clip_of_images_and_cameras_alone_comes_back(make_clip, same):
    clip = make_clip(depth=None, whole=None, part=None, instance=None, teachers={}, metric=False)
    parts = encode_clip(clip)
    assert sorted(parts) == ["0000.image.png", "0001.image.png", META]
    same(decode_clip("a", parts), clip)


def test_parts_are_what_the_format_says(make_clip):
    """Read without our code, as data/README.md describes it."""
    clip = make_clip()
    parts = encode_clip(clip)
    meta = json.loads(parts["meta.json"])
    assert meta["format"] == "ffsplat.clip 1"
    assert (meta["height"], meta["width"]) == (6, 8)
    assert np.array_equal(np.float32(meta["world_from_camera"]), clip.world_from_camera)
    assert meta["depth_step"] == pytest.approx(float(clip.depth.max()) / 65535)
    steps = np.asarray(Image.open(io.BytesIO(parts["0001.depth.png"])))
    assert steps.dtype == np.uint16
    np.testing.assert_allclose(steps * meta["depth_step"], clip.depth[1], atol=6e-5)
    whole, part = (
        np.asarray(Image.open(io.BytesIO(parts[f"0000.{name}.png"]))) for name in ("whole", "part")
    )
    assert (whole.dtype, part.dtype) == (np.uint8, np.uint16)
    assert np.array_equal(whole.astype(int) - 1, clip.whole[0])
    assert np.array_equal(part.astype(int) - 1, clip.part[0])
    assert np.array_equal(safetensors.numpy.load(parts[TEACHERS])["dino"], clip.teachers["dino"])


def test_depth_is_right_to_half_a_step_and_stays_known(make_clip):
    depth = np.zeros((2, 6, 8), np.float32)
    step = 100 / 65535
    depth[0, 0, :5] = [100, 50, step, 0.4 * step, 1e-9]
    found = decode_clip("a", encode_clip(make_clip(depth=depth))).depth
    assert found[0, 0, 0] == 100
    assert abs(found[0, 0, 1] - 50) <= step / 2
    np.testing.assert_allclose(found[0, 0, 2:5], step, rtol=1e-6)
    assert np.array_equal(found > 0, depth > 0)


def test_depth_that_is_nowhere_known_comes_back(make_clip):
    depth = np.zeros((2, 6, 8), np.float32)
    assert np.array_equal(decode_clip("a", encode_clip(make_clip(depth=depth))).depth, depth)


def test_labels_reach_from_unknown_to_the_largest(make_clip):
    part = np.full((2, 6, 8), -1, np.int16)
    part[1, 2, 3] = np.iinfo(np.int16).max
    whole = np.full((2, 6, 8), 254, np.int16)
    parts = encode_clip(make_clip(part=part, whole=whole))
    assert Image.open(io.BytesIO(parts["0000.whole.png"])).mode == "L"
    assert np.array_equal(decode_clip("a", parts).part, part)
    assert np.array_equal(decode_clip("a", parts).whole, whole)


def test_jpeg_is_close(make_clip):
    smooth = np.tile(np.linspace(0, 255, 48, dtype=np.uint8)[:, None, None], (2, 1, 32, 3))
    bare = {"depth": None, "whole": None, "part": None, "instance": None}
    clip = make_clip(size=(48, 32), images=smooth, **bare)
    found = decode_clip("a", encode_clip(clip, "jpg")).images
    assert 0 < np.abs(found.astype(int) - smooth).max() < 6


def test_photos_are_kept_as_they_are(make_clip, photo, same):
    clip = make_clip()
    files = (photo(clip.images[0], "JPEG"), photo(clip.images[1], "PNG"))
    first = np.asarray(Image.open(io.BytesIO(files[0])))
    clip = replace(clip, images=np.stack([first, clip.images[1]]), photos=files)
    parts = encode_clip(clip)
    assert (parts["0000.image.jpg"], parts["0001.image.png"]) == files
    same(decode_clip("a", parts), clip)


def test_photos_of_other_pixels_are_refused(make_clip, photo):
    clip = make_clip()
    files = tuple(photo(image, "JPEG") for image in clip.images)
    with pytest.raises(ShardError, match="clip a: a photo does not decode to the pixels"):
        encode_clip(replace(clip, photos=files))
    with pytest.raises(ShardError, match="1 photos, 2 images"):
        encode_clip(replace(clip, photos=files[:1]))
    with pytest.raises(ShardError, match="neither JPEG nor PNG nor WebP"):
        encode_clip(replace(clip, photos=(b"GIF89a", b"GIF89a")))


def with_value(values: np.ndarray, place, value) -> np.ndarray:
    values = values.copy()
    values[place] = value
    return values


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("depth", (0, 1, 1), np.nan, "depth is not finite"),
        ("depth", (0, 1, 1), -1, "below 0"),
        ("whole", (0, 1, 1), -2, "whole is below -1"),
        ("intrinsics", (0, 0, 0), np.nan, "not finite"),
        ("intrinsics", (0, 0, 0), 0, "pinhole"),
        ("intrinsics", (0, 2, 0), 1, "pinhole"),
        ("world_from_camera", (1, 0, 3), np.inf, "not finite"),
        ("world_from_camera", (1, 0, 0), 2, "rigid"),
        ("world_from_camera", (1, slice(3), slice(3)), -np.eye(3), "rigid"),
        ("world_from_camera", (1, 3, 0), 1, "rigid"),
    ],
)
def test_senseless_clips_are_refused_both_ways(make_clip, name, place, value, message):
    clip = make_clip("senseless")
    spoilt = with_value(getattr(clip, name), place, value)
    with pytest.raises(ShardError, match=f"clip senseless: .*{message}"):
        encode_clip(replace(clip, **{name: spoilt}))
    if name in ("intrinsics", "world_from_camera"):
        with pytest.raises(ShardError, match=message):
            decode_clip("a", changed(encode_clip(clip), **{name: spoilt.tolist()}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": ""}, "not a name"),
        ({"source": "two\nlines"}, "not a name"),
        ({"teachers": {"x": np.zeros((1, 2, 2, 2), np.float16)}}, "not one map a view"),
        ({"teachers": {"x": np.full((2, 2, 2, 2), np.inf, np.float16)}}, "not finite"),
        ({"intrinsics": np.eye(3, dtype=np.float32)[None]}, "1 intrinsics and 2 poses, 2 images"),
        ({"depth": np.ones((2, 5, 8), np.float32)}, "depth has shape"),
        ({"images": np.zeros((2, 0, 8, 3), np.uint8)}, "views of 8 x 0"),
    ],
)
def test_clips_that_do_not_fit_together_are_refused(make_clip, fields, message):
    clip = make_clip()
    for name, value in fields.items():
        object.__setattr__(clip, name, value)  # past the check of shapes, which users do not run
    with pytest.raises(ShardError, match=message):
        encode_clip(clip)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": "ffsplat.clip 2"}, "entries for ffsplat.clip 1"),
        ({"extra": 1}, "unknown"),
        ({"metric": 1}, "mistyped"),
        ({"maps": ["depth", "secret"]}, "unknown or repeated maps"),
        ({"maps": ["depth", "depth"]}, "unknown or repeated maps"),
        ({"maps": [1]}, "lists of names"),
        ({"height": 10**6, "width": 10**6}, "more than 67108864 in all"),
        ({"height": 0}, "views of"),
        ({"height": 5}, "0000.image.png: 8 x 6 pixels of mode RGB, expected 8 x 5"),
        ({"intrinsics": [[1, 2], [3]]}, "not matrices of numbers"),
        ({"intrinsics": [[[1, 0, 0]]] * 2}, "not 2 matrices of 3 x 3"),
        ({"intrinsics": [[[10**400] * 3] * 3] * 2}, "not matrices of numbers"),
        ({"intrinsics": [[[1e300] * 3] * 3] * 2}, "not finite"),
        ({"intrinsics": []}, "0 views"),
        ({"depth_step": -1.0}, "depth_step"),
        ({"depth_step": float("nan")}, "depth_step"),
        ({"depth_step": 10**400}, "depth_step"),
        ({"teachers": ["clip"]}, "other teachers"),
        ({"teachers": []}, "part teachers.safetensors is none that it should have"),
        ({"source": "\ud800"}, "not a name"),
    ],
)  # fmt: skip
def test_json_that_says_something_else_is_refused(make_clip, entries, message):
    with pytest.raises(ShardError, match=message):
        decode_clip("a", changed(encode_clip(make_clip()), **entries))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 10**5, b"[]", b"\xff\xfe", b"9" * 5000, b" " * 2**21]
)
def test_json_that_is_none_is_refused(make_clip, content):
    with pytest.raises(ShardError, match=r"meta\.json"):
        decode_clip("a", encode_clip(make_clip()) | {META: content})


@pytest.mark.parametrize(
    "name", ["model.pyd", "model.pkl", "x.pickle", "weights.pth", "0002.image.png", "run.sh"]
)
def test_parts_of_other_names_are_refused_by_name(make_clip, name):
    with pytest.raises(ShardError, match=f"part {name} is none that it should have"):
        decode_clip("a", encode_clip(make_clip()) | {name: b"cos\nsystem\n(S'touch x'\ntR."})


@pytest.mark.parametrize("name", [META, TEACHERS, "0001.image.png", "0000.depth.png"])
def test_a_missing_part_is_named(make_clip, name):
    parts = encode_clip(make_clip())
    del parts[name]
    with pytest.raises(ShardError, match=f"part {name} is missing"):
        decode_clip("a", parts)


def test_pictures_of_other_kinds_are_refused(make_clip, photo):
    parts = encode_clip(make_clip())
    grey = np.zeros((6, 8), np.uint8)
    for name, content, message in (
        ("0000.image.png", photo(grey, "PNG"), "of mode L"),
        ("0000.image.png", photo(np.zeros((6, 8, 3), np.uint8), "JPEG"), "not a PNG file"),
        ("0000.image.png", b"%!PS-Adobe-3.0 EPSF-3.0", "not a PNG file"),
        ("0000.depth.png", photo(grey, "PNG"), "of mode L"),
        ("0000.whole.png", photo(grey[:5], "PNG"), "8 x 5"),
        ("0000.part.png", photo(np.full((6, 8), 40000, np.uint16), "PNG"), "a label is 39999"),
        ("0000.part.png", parts["0000.part.png"][:-60], "truncated"),
    ):
        with pytest.raises(ShardError, match=f"{name}: .*{message}"):
            decode_clip("a", parts | {name: content})


def test_a_header_of_absurd_size_is_refused_before_pixels_are_made(make_clip, tmp_path):
    import struct
    import tracemalloc
    import zlib

    parts = encode_clip(make_clip())
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = parts["0000.image.png"][33:]
    huge = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + body
    tracemalloc.start()
    with pytest.raises(ShardError, match=r"0000\.image\.png"):
        decode_clip("a", parts | {"0000.image.png": huge})
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


def test_teachers_of_other_types_are_refused(make_clip):
    parts = encode_clip(make_clip())
    for value, message in (
        (np.zeros((2, 5, 2, 3), np.float32), "is F32"),
        (np.zeros((2, 5), np.float16), r"is F16 \[2, 5\]"),
        (np.zeros((1, 5, 2, 3), np.float16), "not F16, one map a view"),
        (np.full((2, 5, 2, 3), np.nan, np.float16), "not finite"),
    ):
        with pytest.raises(ShardError, match=message):
            decode_clip("a", parts | {TEACHERS: safetensors.numpy.save({"dino": value})})
    header = json.dumps(
        {"dino": {"dtype": "F16", "shape": [2, 1, 1, 2**40], "data_offsets": [0, 8]}}
    )
    lying = len(header).to_bytes(8, "little") + header.encode() + bytes(8)
    for content, message in (
        (lying, "damaged"),
        (b"", "damaged"),
        (b"\xff" * 64, "header of more"),
    ):
        with pytest.raises(ShardError, match=message):
            decode_clip("a", parts | {TEACHERS: content})
