from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from ros_messages import camera_info, compressed, image

from ffsplat.errors import StreamError
from ffsplat.stream.ros.images import (
    ENCODINGS,
    MAX_PIXELS,
    UnsupportedImage,
    compressed_bytes,
    demosaic,
    intrinsics_of,
    is_distorted,
    pixels_of,
)

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
K = [[500, 0, 319.5], [0, 510, 239.5], [0, 0, 1]]


def smooth(h=48, w=64):
    y, x = np.mgrid[:h, :w]
    waves = [np.sin(x / 9) + np.cos(y / 7), np.cos(x / 8 + y / 11), np.sin((x + y) / 10)]
    return np.stack([100 + 40 * wave for wave in waves], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("rgb8", PICTURE),
        ("bgr8", PICTURE[..., ::-1]),
        ("rgba8", np.dstack([PICTURE, RNG.integers(0, 256, (5, 4), dtype=np.uint8)])),
        ("bgra8", np.dstack([PICTURE[..., ::-1], np.zeros((5, 4), np.uint8)])),
        ("rgb16", PICTURE.astype("<u2") * 256 + 99),
        ("bgr16", PICTURE[..., ::-1].astype("<u2") * 256),
    ],
)
def test_color_encodings_give_the_same_pixels(encoding, data):
    np.testing.assert_array_equal(pixels_of(image(data, 5, 4, encoding)), PICTURE)


def test_gray_of_8_and_16_bits_fills_all_channels_in_either_byte_order():
    gray = PICTURE[..., 0]
    expected = np.repeat(gray[..., None], 3, axis=2)
    little, big = ((gray.astype(np.uint16) * 256 + 7).astype(kind) for kind in ("<u2", ">u2"))
    np.testing.assert_array_equal(pixels_of(image(gray, 5, 4, "mono8")), expected)
    np.testing.assert_array_equal(pixels_of(image(little, 5, 4, "mono16")), expected)
    np.testing.assert_array_equal(pixels_of(image(big, 5, 4, "mono16", big=True)), expected)


def test_padding_of_rows_is_left_out_also_where_the_last_row_has_none():
    padded = np.full((5, 20), 99, np.uint8)
    padded[:, :12] = PICTURE.reshape(5, 12)
    message = image(padded, 5, 4, "rgb8", step=20)
    np.testing.assert_array_equal(pixels_of(message), PICTURE)
    message.data = message.data[:-8]
    np.testing.assert_array_equal(pixels_of(message), PICTURE)


def test_data_may_be_bytes_or_an_array_as_rclpy_gives_it():
    from array import array

    message = image(PICTURE, 5, 4)
    for data in (PICTURE.tobytes(), array("B", PICTURE.tobytes())):
        fields = {name: getattr(message, name) for name in ("height", "width", "step", "encoding")}
        other = SimpleNamespace(**fields, is_bigendian=0, data=data)
        np.testing.assert_array_equal(pixels_of(other), PICTURE)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_of_a_smooth_picture_comes_back(pattern):
    picture = smooth()
    mosaic = np.empty(picture.shape[:2], np.uint8)
    for place, letter in enumerate(pattern):
        where = np.s_[place // 2 :: 2, place % 2 :: 2]
        mosaic[where] = picture[..., "rgb".index(letter)][where]
    found = pixels_of(image(mosaic, 48, 64, f"bayer_{pattern}8"))
    assert np.abs(found[2:-2, 2:-2].astype(int) - picture[2:-2, 2:-2]).max() <= 3
    wide = pixels_of(image(mosaic.astype("<u2") * 256, 48, 64, f"bayer_{pattern}16"))
    np.testing.assert_array_equal(wide, found)


def test_missing_samples_of_a_mosaic_are_means_by_hand():
    raw = np.array([[10, 20, 30, 40], [50, 60, 70, 80], [90, 100, 110, 120]], np.uint8)
    found = demosaic(raw, "rggb")
    assert found[1, 1].tolist() == [(10 + 30 + 90 + 110) // 4, (20 + 50 + 70 + 100) // 4, 60]
    assert found[0, 1].tolist() == [20, 20, 60]
    assert found[0, 0].tolist() == [10, (20 + 50) // 2, 60]


@pytest.mark.parametrize(
    ("encoding", "format"), [("yuv422", "uyvy422"), ("yuv422_yuy2", "yuyv422"), ("yuyv", "yuyv422")]
)
def test_yuv_agrees_with_ffmpeg(encoding, format):
    av = pytest.importorskip("av")
    source = av.VideoFrame.from_ndarray(smooth(), format="rgb24").reformat(format=format)
    packed = np.frombuffer(bytes(source.planes[0]), np.uint8)
    step = source.planes[0].line_size
    found = pixels_of(image(packed, 48, 64, encoding, step=step))
    expected = source.reformat(format="rgb24").to_ndarray()
    assert np.abs(found.astype(int) - expected).mean() < 1.5
    assert np.abs(found.astype(int) - smooth()).mean() < 3


def test_other_encodings_are_refused_by_name():
    for encoding in ("32FC1", "16UC1", "nv12", "rgb8; jpeg"):
        with pytest.raises(UnsupportedImage, match=encoding):
            pixels_of(image(PICTURE, 5, 4, encoding))


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 0},
        {"data": np.zeros(0, np.uint8)},
        {"height": 2**32 - 1},
        {"width": 2**32 - 1},
        {"step": 2**32 - 1},
        {"step": 11},
        {"step": 0},
        {"height": 6},
        {"height": 2**31, "width": 1, "step": 3},
    ],
)
@pytest.mark.parametrize("encoding", ["rgb8", "mono16", "bayer_rggb8", "yuv422"])
def test_sizes_that_lie_are_refused_before_anything_is_made(change, encoding):
    message = image(PICTURE, 5, 4, encoding)
    for name, value in change.items():
        setattr(message, name, value)
    if change == {"step": 11} and encoding != "rgb8":
        pixels_of(message)  # a step of 11 bytes is odd, but holds rows of 4 or 8
    elif change == {"height": 6} and encoding != "rgb8":
        message.step, message.data = 8, message.data[:8]
    else:
        with pytest.raises(StreamError):
            pixels_of(message)


def test_a_picture_of_too_many_pixels_is_refused():
    message = image(np.zeros(16, np.uint8), 1, 4, "mono8")
    message.height, message.width, message.step = MAX_PIXELS, 2, 2
    with pytest.raises(StreamError, match="larger than 64 MP"):
        pixels_of(message)


def test_every_listed_encoding_is_read():
    for encoding in ENCODINGS:
        assert pixels_of(image(np.zeros(4 * 4 * 8, np.uint8), 4, 4, encoding)).shape == (4, 4, 3)


def encoded(kind):
    file = BytesIO()
    Image.fromarray(PICTURE).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        ("JPEG", "jpeg"),
        ("PNG", "png"),
        ("JPEG", "rgb8; jpeg compressed bgr8"),
        ("PNG", "bgr8; png compressed bgr8"),
        ("WEBP", "webp"),
        ("JPEG", ""),
    ],
)
def test_compressed_pictures_stay_as_they_are(kind, format):
    assert compressed_bytes(compressed(encoded(kind), format)) == encoded(kind)


def test_depth_video_and_damage_are_told_apart():
    for depth in ("16UC1; compressedDepth png", "16UC1; png compressed ", "32FC1;tiff"):
        with pytest.raises(UnsupportedImage, match="depth"):
            compressed_bytes(compressed(encoded("PNG"), depth))
    assert compressed_bytes(compressed(encoded("JPEG"), "8UC3; jpeg compressed bgr8"))
    with pytest.raises(UnsupportedImage, match="h264"):
        compressed_bytes(compressed(b"\0\0\0\1gA", "h264"))
    with pytest.raises(StreamError, match="empty"):
        compressed_bytes(compressed(b"", "jpeg"))
    with pytest.raises(StreamError, match="damaged"):
        compressed_bytes(compressed(b"not a picture", "jpeg"))


def test_the_principal_point_moves_by_half_a_pixel():
    found = intrinsics_of(camera_info(K, 640, 480), 640, 480)
    np.testing.assert_array_equal(found, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])


def test_intrinsics_follow_binning_region_and_size():
    binned = intrinsics_of(camera_info(K, 640, 480, binning=(2, 2)), 320, 240)
    np.testing.assert_allclose(binned, [[250, 0, 160], [0, 255, 120], [0, 0, 1]])
    region = intrinsics_of(camera_info(K, 640, 480, roi=(100, 50, 400, 300)), 400, 300)
    np.testing.assert_allclose(region, [[500, 0, 220], [0, 510, 190], [0, 0, 1]])
    shrunk = intrinsics_of(camera_info(K, 640, 480), 160, 120)
    np.testing.assert_allclose(shrunk, [[125, 0, 80], [0, 127.5, 60], [0, 0, 1]])
    with pytest.raises(StreamError, match="640x480"):
        intrinsics_of(camera_info(K, 640, 480), 480, 640)


def test_a_rectified_picture_has_the_camera_after_rectification():
    p = [[400, 0, 309.5, 0], [0, 400, 229.5, 0], [0, 0, 1, 0]]
    info = camera_info(K, 640, 480, d=[0.1, 0, 0, 0, 0], p=p)
    assert is_distorted(info)
    assert intrinsics_of(info, 640, 480, rectified=True)[0].tolist() == [400, 0, 310]
    assert intrinsics_of(info, 640, 480)[0].tolist() == [500, 0, 320]


def test_cameras_that_nobody_calibrated_have_no_intrinsics():
    assert intrinsics_of(camera_info(np.zeros(9), 640, 480), 640, 480) is None
    assert intrinsics_of(camera_info(np.full(9, np.nan), 640, 480), 640, 480) is None
    assert not is_distorted(camera_info(K, 640, 480, d=[0, 0, 0, 0, 0]))
    old = camera_info(K, 640, 480)
    ros1 = SimpleNamespace(
        K=old.k, P=old.p, D=old.d, roi=old.roi, binning_x=0, binning_y=0, width=640, height=480
    )
    assert intrinsics_of(ros1, 640, 480)[0, 2] == 320
