"""A frame on the wire: what is known of its camera and the picture, in one payload.

The payload is the length of a JSON object (uint32, 0 for none), the object, and a JPEG, PNG or WebP
to the end. So a pose cannot be taken for that of another picture.
"""

import json
from struct import Struct

import numpy as np
from jaxtyping import Float64

from ffsplat.stream.frame import Frame
from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, ProtocolError
from ffsplat.stream.protocol.fields import Fields, read_object
from ffsplat.stream.protocol.header import Kind, Message

MAX_META = 4096
"""Bytes of the JSON before a picture."""

RIGID = 1e-3
"""How far the entries of R R^T, and det R, may be from those of a rotation."""

MAX_PIXELS_AWAY = 1e6
MAX_AWAY = 1e9
"""Pixels, and metres, that no camera is beyond: what follows in float32 stays finite."""

_LENGTH = Struct("<I")
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def frame_message(frame: Frame) -> Message:
    """The message of an encoded frame, to be sent without compression.

    Raises ProtocolError (4400) if the frame is not one that a server takes.
    """
    if not isinstance(frame.image, bytes):
        raise ProtocolError(MALFORMED, "the picture is not encoded")
    meta = {}
    if frame.intrinsics is not None:
        matrix = frame.intrinsics
        meta["intrinsics"] = [float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))]
    if frame.pose is not None:
        meta["pose"] = frame.pose.ravel().tolist()
    block = json.dumps(meta, separators=(",", ":")).encode() if meta else b""
    payload = b"".join([_LENGTH.pack(len(block)), block, frame.image])
    message = Message(Kind.FRAME, frame.number, frame.time_ns, payload)
    read_frame(message)
    return message


def read_frame(message: Message) -> Frame:
    """The frame in a message of kind FRAME; its picture is not decoded.

    Raises ProtocolError: 4400 for a payload that is cut off, no JPEG, PNG or WebP by its first
    bytes, a pose that is not rigid or intrinsics that cannot be, 4413 for more than MAX_META bytes
    of JSON.
    """
    payload = message.payload
    if len(payload) < _LENGTH.size:
        raise ProtocolError(MALFORMED, "a frame without the length of its JSON")
    (length,) = _LENGTH.unpack_from(payload)
    if length > MAX_META:
        raise ProtocolError(TOO_LARGE, f"{length} bytes of JSON in a frame, over {MAX_META}")
    start = _LENGTH.size + length
    if start > len(payload):
        raise ProtocolError(MALFORMED, "a frame that ends within its JSON")
    image = payload[start:]
    if not (image.startswith((_JPEG, _PNG)) or (image[:4], image[8:12]) == (b"RIFF", b"WEBP")):
        raise ProtocolError(MALFORMED, "a frame that is no JPEG, PNG or WebP")
    values = Fields(read_object(payload[_LENGTH.size : start]) if length else {}, "frame")
    intrinsics = read_intrinsics(values) if "intrinsics" in values else None
    pose = read_pose(values) if "pose" in values else None
    values.end()
    return Frame(image, message.time_ns, message.number, pose, intrinsics)


def read_intrinsics(values: Fields) -> Float64[np.ndarray, "3 3"]:
    """The pinhole camera of [fx, fy, cx, cy], all in pixels.

    Raises ProtocolError for a focal length under 1 and what is over MAX_PIXELS_AWAY.
    """
    fx, fy, cx, cy = values.numbers("intrinsics", 4)
    if min(fx, fy) < 1 or max(fx, fy, abs(cx), abs(cy)) > MAX_PIXELS_AWAY:
        values.refuse("intrinsics", "is no camera in pixels")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def read_pose(values: Fields) -> Float64[np.ndarray, "4 4"]:
    """A rigid matrix from its 16 numbers, row by row; ProtocolError if it is not rigid to RIGID."""
    pose = np.array(values.numbers("pose", 16), np.float64).reshape(4, 4)
    rotation = pose[:3, :3]
    small = bool((np.abs(rotation) <= 1 + RIGID).all())  # so that no product below overflows
    if not small or np.abs(rotation @ rotation.T - np.eye(3)).max() > RIGID:
        values.refuse("pose", "does not begin with a rotation")
    if np.abs(pose[:3, 3]).max() > MAX_AWAY:
        values.refuse("pose", f"is more than {MAX_AWAY:g} away")
    if np.linalg.det(rotation) < 0 or pose[3].tolist() != [0, 0, 0, 1]:
        values.refuse("pose", "mirrors, or does not end with 0, 0, 0, 1")
    return pose
