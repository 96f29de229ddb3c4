"""The scripts of the page under node: a second implementation of the protocol, held to ours."""

import base64
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toydeltas import ToyMap, empty_delta, random_splats

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.protocol import document
from ffsplat.stream.protocol.blocks import MAX_PART, Deltas, encode_delta, pack_delta
from ffsplat.stream.protocol.errors import ProtocolError
from ffsplat.stream.protocol.header import Kind, Message, pack, unpack
from ffsplat.stream.protocol.tensors import read_tensors
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server import routes

HERE = Path(__file__).with_name("page")
TEXT = Path(document.__file__).with_name("PROTOCOL.md").read_text("utf-8")
POSE = np.array([[1.0, 1, 0, 0, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The scripts in a folder that tells node what they are."""
    if shutil.which("node") is None:
        pytest.skip("no node on this machine")
    folder = tmp_path_factory.mktemp("page") / "page"
    shutil.copytree(Path(routes.__file__).with_name("page"), folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def node(*arguments: str | Path, **environment: str | Path) -> str:
    done = subprocess.run(
        ["node", *map(str, arguments)],
        env=os.environ | {name: str(value) for name, value in environment.items()},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def replay(page: Path, *streams: list[bytes]) -> list[dict]:
    """What the page makes of streams of messages."""
    file = page.parent / "streams.json"
    texts = [[base64.b64encode(one).decode() for one in stream] for stream in streams]
    file.write_text(json.dumps(texts))
    return json.loads(node(HERE / "replay.mjs", page, file))


def ours(stream: list[bytes]) -> dict:
    """The same by our own implementation."""
    replica, deltas = Replica(), Deltas()
    try:
        for data in stream:
            if (whole := deltas.add(unpack(data, MAX_PART))) is not None:
                kind, delta = whole
                replica.restore(delta) if kind is Kind.SNAPSHOT else replica.apply(delta)
    except ProtocolError as error:
        return {"refused": error.code}
    return {"count": len(replica), "digests": digests(replica)}


def digests(replica: Replica) -> dict[str, str]:
    whole = b"".join(part[12:] for part in encode_delta(replica.snapshot()))
    return {
        name: hashlib.sha256(one.tobytes()).hexdigest() for name, one in read_tensors(whole).items()
    }


def messages(*deltas: MapDelta, kind: Kind = Kind.DELTA) -> list[bytes]:
    return [one for delta in deltas for one in pack_delta(delta, kind)]


def test_the_example_of_the_text_is_read(page: Path):
    block = re.findall(r"```hex\n(.*?)```", TEXT, re.DOTALL)[1]
    data = bytes.fromhex(block)
    assert replay(page, [data]) == [ours([data])]


def test_deltas_make_the_same_map_to_the_byte(page: Path):
    streams = []
    for seed in range(30):
        toy = ToyMap(seed)
        streams.append(messages(*(toy.next() for _ in range(10))))
    assert replay(page, *streams) == [ours(stream) for stream in streams]


def test_a_snapshot_and_what_follows_make_the_same_map(page: Path):
    streams, expected = [], []
    for seed in range(10):
        toy, replica = ToyMap(seed), Replica()
        deltas = [toy.next() for _ in range(8)]
        for delta in deltas:
            replica.apply(delta)
        first = Replica()
        for delta in deltas[:5]:
            first.apply(delta)
        late = messages(first.snapshot(), kind=Kind.SNAPSHOT) + messages(*deltas[5:])
        streams.append(messages(*deltas[:2]) + late)  # one that fell behind
        expected.append({"count": len(replica), "digests": digests(replica)})
    assert replay(page, *streams) == expected


def test_parts_are_joined(page: Path):
    rng = np.random.default_rng(0)
    splats = random_splats(rng, np.arange(50_000), [3], 9)
    large = empty_delta(1, splats=splats, submaps=np.array([3], np.uint16), submap_poses=POSE)
    stream = messages(large)
    assert len(stream) > 2
    fewer = stream[:1] + stream[2:]
    whole, broken = replay(page, stream, fewer)
    assert whole == ours(stream)
    assert broken["refused"] == ours(fewer)["refused"] == 4400


def test_codes_are_merged_as_they_are_here(page: Path):
    rng = np.random.default_rng(1)
    splats = random_splats(rng, np.arange(400), [3], 9)
    splats = replace(
        splats,
        ids=rng.integers(0, 9, (400, 4)).astype(np.int16),
        weights=rng.integers(0, 256, (400, 4)).astype(np.uint8),
    )
    first = empty_delta(1, splats=splats, submaps=np.array([3], np.uint16), submap_poses=POSE)
    streams = [
        messages(first, empty_delta(2, row_map=rng.integers(-1, 5, 9).astype(np.int16)))
        for _ in range(10)
    ]
    assert replay(page, *streams) == [ours(stream) for stream in streams]


def test_what_is_broken_is_refused_by_both(page: Path):
    rng = np.random.default_rng(2)
    streams = []
    for seed in range(200):
        toy = ToyMap(seed % 5)
        deltas = [toy.next() for _ in range(3)]
        (payload,) = encode_delta(deltas[2])
        broken = bytearray(payload)
        for _ in range(rng.integers(1, 4)):
            broken[rng.integers(len(broken))] ^= 1 << int(rng.integers(8))
        last = Message(Kind.DELTA, deltas[2].number, deltas[2].time_ns, bytes(broken))
        streams.append([*messages(*deltas[:2]), pack(last)])
    expected = [ours(stream) for stream in streams]
    found = replay(page, *streams)
    for mine, theirs in zip(expected, found, strict=True):
        assert mine == {name: theirs[name] for name in theirs if name != "why"}
    assert 100 < sum("refused" in one for one in found) < 200


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"FFS2" + data[4:],
        lambda data: data[:5] + b"\x03" + data[6:],
        lambda data: data[:6] + b"\x01" + data[7:],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:10],
        lambda data: compressed(data, size=1),
        lambda data: compressed(data, size=-1),
        lambda data: compressed(data, cut=5),
        lambda data: compressed(bytes(32 + 2_000_000)),
        lambda data: compressed(data, size=2**31),
    ],
)
def test_broken_messages_are_refused_by_both(page: Path, change):
    (data,) = messages(ToyMap(0).next())
    plain = pack(unpack(data, MAX_PART))
    stream = [change(plain)]
    assert replay(page, stream)[0]["refused"] == ours(stream)["refused"]


def compressed(data: bytes, size: int = 0, cut: int = 0) -> bytes:
    """A message with a compressed payload that is not as it should be."""
    stream = zlib.compress(data[32:])
    stream = stream[: len(stream) - cut]
    stated = size if size > 1 else len(data) - 32 + size
    payload = struct.pack("<I", stated) + stream
    head = struct.unpack("<4sBBHQqII", data[:32])
    head = (b"FFS1", 2, 1, 0, *head[4:6], len(payload), zlib.crc32(payload))
    return struct.pack("<4sBBHQqII", *head) + payload


def test_sessions_go_as_the_text_says(page: Path):
    node("--test", HERE / "connection.test.mjs", PAGE=page)


def test_gids_of_hits_are_read_as_the_text_says(page: Path):
    node("--test", HERE / "runs.test.mjs", PAGE=page)
