"""Pictures and intrinsics in messages of ROS; the lengths that a message claims are checked first.

Messages are duck-typed: those of `rosbags`, of rclpy and of ROS 1 have the same fields. Encodings
and their names: sensor_msgs/image_encodings.h; CameraInfo: image_pipeline's REP-104.
"""

import re
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8, UInt16
from PIL import Image

from ffsplat.decode import decoder_errors
from ffsplat.errors import StreamError

MAX_PIXELS = 64_000_000

_CHANNELS = {
    "rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2, 3), "bgra8": (2, 1, 0, 3),
    "rgb16": (0, 1, 2), "bgr16": (2, 1, 0), "rgba16": (0, 1, 2, 3), "bgra16": (2, 1, 0, 3),
    "mono8": (0, 0, 0), "mono16": (0, 0, 0), "8UC1": (0, 0, 0),
}  # fmt: skip
"""Where red, green, blue (and an alpha that is ignored) stand in a pixel."""

_YUV = {
    "yuv422": (1, 0, 2), "uyvy": (1, 0, 2),
    "yuv422_yuy2": (0, 1, 3), "yuyv": (0, 1, 3),
}  # fmt: skip
"""Where the first luma, U and V stand in the four bytes of two pixels."""

_BAYER = ("rggb", "bggr", "gbrg", "grbg")

_DEPTH = re.compile(r"(16|32|64)[USF]C\d")
"""Encodings of numbers that are no brightness, as `format` names what was compressed."""

_COMPRESSED = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "WebP": b"RIFF"}

ENCODINGS = (*_CHANNELS, *_YUV, *(f"bayer_{p}{bits}" for p in _BAYER for bits in (8, 16)))
"""What is read; others (depth, floats, planar YUV) are refused by name."""


class UnsupportedImage(StreamError):
    """A topic whose pictures are of a kind that is not read at all."""


def pixels_of(image: Any) -> UInt8[np.ndarray, "h w 3"]:
    """The sRGB pixels of a sensor_msgs/Image; 16 bits lose the lower eight.

    Raises UnsupportedImage for an encoding that is not read, StreamError for a picture that is
    empty, too large, or whose data are not as long as it says.
    """
    encoding = image.encoding
    if encoding not in ENCODINGS:
        kinds = "color or gray pictures of 8 or 16 bits, Bayer and YUV 4:2:2 are read"
        raise UnsupportedImage(f"pictures of encoding {str(encoding)[:40]!r} are not read", kinds)
    wide = encoding.endswith("16")
    if encoding in _YUV:
        samples = 2
    elif encoding in _CHANNELS:
        gray = encoding.startswith(("mono", "8UC1"))
        samples = 1 if gray else len(_CHANNELS[encoding])
    else:
        samples = 1
    raw = _rows(image, samples, wide)
    if encoding in _YUV:
        return _from_yuv(raw, _YUV[encoding])
    if encoding in _CHANNELS:
        return np.ascontiguousarray(raw[:, :, list(_CHANNELS[encoding][:3])])
    return demosaic(raw[:, :, 0], encoding.removeprefix("bayer_")[:4])


def _rows(image: Any, samples: int, wide: bool) -> UInt8[np.ndarray, "h w samples"]:
    """The pixels without what pads the rows, the high bytes alone where a sample has two."""
    height, width, step = int(image.height), int(image.width), int(image.step)
    length = len(image.data)
    row = width * samples * (2 if wide else 1)
    if height < 1 or width < 1 or length == 0:
        raise StreamError(f"empty picture ({width}x{height}, {length} bytes)")
    if height * width > MAX_PIXELS:
        raise StreamError(f"picture of {width}x{height} is larger than {MAX_PIXELS // 10**6} MP")
    if step < row or step * (height - 1) + row > length:
        raise StreamError(
            f"picture of {width}x{height} in {image.encoding} with rows of {step} bytes "
            f"does not fit its {length} bytes"
        )
    flat = np.frombuffer(image.data, np.uint8)
    rows = np.lib.stride_tricks.as_strided(flat, (height, row), (step, 1), writeable=False)
    pixels = rows.reshape(height, width, samples, 2 if wide else 1)
    return pixels[..., 0 if wide and image.is_bigendian else -1]


def _from_yuv(
    packed: UInt8[np.ndarray, "h w 2"], places: tuple[int, int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """RGB of YUV 4:2:2 of limited range. Source: ITU-R BT.601-7, section 2.5."""
    h, w, _ = packed.shape
    if w % 2:
        raise StreamError(f"a YUV 4:2:2 picture cannot be {w} pixels wide")
    quads = packed.reshape(h, w // 2, 4).astype(np.float32)
    first, u, v = places
    luma = (quads[..., [first, first + 2]].reshape(h, w) - 16) * (255 / 219)
    blue, red = (np.repeat(quads[..., c] - 128, 2, axis=1) * (255 / 224) for c in (u, v))
    rgb = [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue]
    return np.stack(rgb, axis=-1).round().clip(0, 255).astype(np.uint8)


def demosaic(raw: UInt8[np.ndarray, "h w"], pattern: str) -> UInt8[np.ndarray, "h w 3"]:
    """Full color of a Bayer mosaic, each missing sample the mean of its nearest neighbours.

    `pattern` names the first two samples of the first row, then of the second. Source of the
    method (bilinear): Gunturk et al., "Demosaicking: color filter array interpolation", 2005.
    """
    h, w = raw.shape
    out = np.empty((h, w, 3), np.uint8)
    for channel, letter in enumerate("rgb"):
        known = np.zeros((h, w), np.uint16)
        for place, owner in enumerate(pattern):
            if owner == letter:
                known[place // 2 :: 2, place % 2 :: 2] = 1
        weights = _tent(known)
        sums = _tent(known * raw)
        mean = (sums + weights // 2) // np.maximum(weights, 1)
        out[..., channel] = np.where(known == 1, raw, mean)
    return out


def _tent(values: UInt16[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """Sums over 3x3 neighbours weighted 1 2 1 both ways; at most 16 * 255, so 16 bits do."""
    padded = np.pad(values, 1)
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return across[:-2] + 2 * across[1:-1] + across[2:]


def compressed_bytes(image: Any) -> bytes:
    """The JPEG, PNG or WebP of a sensor_msgs/CompressedImage, as it is.

    The content decides; `format` ("jpeg", "rgb8; jpeg compressed bgr8") only tells what to refuse.
    Raises UnsupportedImage for depth and for codecs of video, StreamError for an empty picture.
    """
    data = bytes(image.data)
    if not data:
        raise StreamError("empty picture (0 bytes)")
    if "compressedDepth" in image.format or _DEPTH.match(image.format):
        raise UnsupportedImage("compressed depth pictures are not read", "give the color topic")
    if data.startswith(tuple(_COMPRESSED.values())):
        return data
    if any(kind in image.format.lower() for kind in ("jpeg", "jpg", "png", "webp")):
        raise StreamError(f"picture of format {image.format[:40]!r} is damaged")
    raise UnsupportedImage(
        f"pictures of format {image.format[:40]!r} are not read", "JPEG, PNG and WebP are"
    )


def picture_size(picture: bytes | np.ndarray) -> tuple[int, int]:
    """Width and height, of an encoded picture by its header alone; ImageError if it has none."""
    if isinstance(picture, np.ndarray):
        return picture.shape[1], picture.shape[0]
    with decoder_errors(), Image.open(BytesIO(picture), formats=("JPEG", "PNG", "WEBP")) as opened:
        return opened.size


def intrinsics_of(
    info: Any, width: int, height: int, rectified: bool = False
) -> Float64[np.ndarray, "3 3"] | None:
    """Pinhole intrinsics in our pixels of a picture of that size, None if uncalibrated.

    ROS counts from the centre of the top-left pixel, we from its corner: hence half a pixel more
    for the principal point. Binning and region of interest are those of REP-104. `rectified`
    takes P, the camera after rectification, in place of K. A picture that was shrunk or enlarged
    since is followed if it kept its shape. Raises StreamError if the two cannot belong together.
    """
    k = np.array(info.k if hasattr(info, "k") else info.K, np.float64)  # capitals in ROS 1
    p = np.array(info.p if hasattr(info, "p") else info.P, np.float64)
    matrix = p.reshape(3, 4)[:, :3].copy() if rectified and p[0] > 0 else k.reshape(3, 3).copy()
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        return None
    roi, binning = info.roi, [max(1, int(b)) for b in (info.binning_x, info.binning_y)]
    matrix[:2, 2] += 0.5
    matrix[:2, 2] -= roi.x_offset, roi.y_offset
    full = np.array([roi.width or info.width, roi.height or info.height]) / binning
    matrix[:2] /= np.array(binning)[:, None]
    if not (full > 0).all():
        return matrix
    scale = np.array([width, height]) / full
    if abs(scale[0] - scale[1]) * max(width, height) > 2 * scale[0]:
        raise StreamError(f"CameraInfo is of {full[0]:g}x{full[1]:g}, the picture {width}x{height}")
    matrix[:2] *= scale[:, None]
    return matrix


def is_distorted(info: Any) -> bool:
    """Whether a CameraInfo has a lens distortion that is not zero."""
    return bool(np.any(np.array(info.d if hasattr(info, "d") else info.D, np.float64)))


def is_rectified(topic: str) -> bool:
    """Whether pictures of a topic have no distortion left, by image_proc's names."""
    return any(part.startswith("image_rect") for part in topic.split("/"))
