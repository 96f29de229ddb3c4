"""PROTOCOL.md says what the code does: its examples hold without the code, its tables match it."""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ffsplat.codes import MAX_ROWS
from ffsplat.stream.frame import DROPPED, USED
from ffsplat.stream.protocol import blocks, control, document, errors, fields, frames, header
from ffsplat.stream.protocol.blocks import Deltas
from ffsplat.stream.protocol.control import parse_client, parse_server
from ffsplat.stream.protocol.tensors import DTYPES
from ffsplat.stream.replica import replica
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server import gate
from ffsplat.stream.server.intake import UNSEATED

TEXT = Path(document.__file__).with_name("PROTOCOL.md").read_text("utf-8")
FRAME, DELTA = (bytes.fromhex(block) for block in re.findall(r"```hex\n(.*?)```", TEXT, re.DOTALL))
NS = 1_800_000_000_000_000_000


def message(data: bytes) -> tuple[int, int, int, bytes]:
    """Kind, number, time and payload, by section 3 alone."""
    magic, kind, flags, reserved, number, time, size, checksum = struct.unpack(
        "<4sBBHQqII", data[:32]
    )
    payload = data[32:]
    assert (magic, reserved, size, checksum) == (b"FFS1", 0, len(payload), zlib.crc32(payload))
    if flags & 1:
        (size,) = struct.unpack("<I", payload[:4])
        payload = zlib.decompress(payload[4:])
        assert len(payload) == size
    return kind, number, time, payload


def test_the_frame_is_read_by_the_text_alone():
    kind, number, time, payload = message(FRAME)
    (length,) = struct.unpack("<I", payload[:4])
    assert (kind, number, time, length) == (1, 7, NS, 40)
    assert json.loads(payload[4:44]) == {"intrinsics": [500, 500, 320, 240]}
    assert payload[44:] == bytes.fromhex("ffd8ffd9")


def test_the_delta_is_read_by_the_text_alone():
    kind, number, time, payload = message(DELTA)
    assert (kind, number, time, len(payload), len(DELTA)) == (2, 1, NS, 2092, 665)
    assert struct.unpack("<III", payload[:12]) == (0, 1, 2080)
    arrays = safetensors.numpy.load(payload[12:])
    assert arrays["about"].tolist() == [1, 0, NS]
    assert arrays["splats.gids"].tolist() == [5]
    assert arrays["splats.scales"].tolist() == [[0.25, 0.25, 0.125]]
    assert arrays["splats.quaternions_wxyz"].tolist() == [[127, 0, 0, 0]]
    assert arrays["splats.colors"].tolist() == [[255, 128, 0]]
    assert arrays["codebook.names"].tobytes().split(b"\n") == [b"chair", b"", b"table"]
    assert arrays["codebook.spaces"].tobytes() == b"toy"
    (pose,), (mean,) = arrays["submap_poses"], arrays["splats.means"]
    assert (pose[0] * mean + pose[5:]).tolist() == [12, 16, 36]


def test_the_code_reads_the_examples():
    kind, delta = Deltas().add(header.unpack(DELTA, blocks.MAX_PART))
    copy = Replica()
    assert kind is header.Kind.DELTA
    assert copy.apply(delta)
    assert copy.scene().gaussians.means.tolist() == [[12, 16, 36]]
    frame = frames.read_frame(header.unpack(FRAME, 1000))
    assert np.array_equal(frame.intrinsics, [[500, 0, 320], [0, 500, 240], [0, 0, 1]])
    assert header.pack(frames.frame_message(frame)) == FRAME


def test_the_session_is_one():
    session = re.search(r"```\n(C \{.*?)```", TEXT, re.DOTALL)[1].splitlines()
    texts = [line for line in session if line[2] == "{"]
    parsed = [(parse_client if line[0] == "C" else parse_server)(line[2:]) for line in texts]
    names = [type(one).__name__ for one in parsed]
    assert names == ["Hello", "Welcome", "Ack", "Query", "Hits", "Flush", "Flushed", "Bye"]
    for one, line in zip(parsed, texts, strict=True):
        again = json.loads(control.dump(one))
        assert json.loads(line[2:]).items() <= again.items()


def test_arrays_are_those_of_the_code():
    rows = re.findall(
        r"^\| `([a-z_.0-9]+)`(?:, ...)? \| ([IUF][0-9]+) \| ([^|]+) \|", TEXT, re.MULTILINE
    )
    found = {name: (dtype, shape) for name, dtype, shape in rows}
    for name, (dtype, columns) in document._ARRAYS.items():
        listed, shape = found.pop(name)
        assert DTYPES[listed] == np.dtype(dtype)
        assert columns == int(shape.partition(",")[2] or 0)
    optional = {"row_map", "codebook.space.0"}
    optional |= {f"codebook.{name}" for name in ("names", "levels", "parents", "counts", "spaces")}
    assert set(found) == optional


def test_fields_are_those_of_the_code():
    for types in (control._CLIENT, control._SERVER):
        for name in types:
            kind = getattr(control, name.capitalize())
            for field in kind.__dataclass_fields__:
                assert re.search(rf"`{field}`", TEXT), f"{field} of {name}"
    for field in (*control.Limits.__dataclass_fields__, *control.FoundHit.__dataclass_fields__):
        assert f"`{field}`" in TEXT


def test_words_are_those_of_the_code():
    for word in (*USED, *DROPPED, UNSEATED):
        assert f'"{word}"' in TEXT
    codes = {
        value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)
    }
    table = set(map(int, re.findall(r"^\| (\d{4}) \|", TEXT, re.MULTILINE)))
    assert table == (codes - {errors.MAX_REASON}) | {1008, 1009}  # of WebSockets
    for code in table:
        (again,) = re.findall(rf"^\| {code} \|.*\| (yes|no|.) \|$", TEXT, re.MULTILINE)
        assert (again == "yes") == (code in errors.RETRYABLE)


@pytest.mark.parametrize(
    "value",
    [
        fields.MAX_JSON,
        frames.MAX_META,
        blocks.MAX_PART,
        header.MAX_PAYLOAD,
        header.MAX_RATIO,
        blocks.MAX_DOCUMENT,
        control.MAX_TOKEN,
        control.MAX_TEXT,
        control.MAX_ACKS,
        control.MAX_HITS,
        MAX_ROWS,
        document.MAX_SPACES,
        replica.MAX_KEYFRAMES,
        errors.MAX_REASON,
        gate.MAX_FRAGMENTS,
        int(gate.MAX_CONTROLS),
    ],
)
def test_limits_are_those_of_the_code(value):
    assert re.search(rf"\b{value}\b", TEXT)
