"""Clients that send noise: each costs itself, and the server goes on."""

import json
import logging

import numpy as np
from websockets.exceptions import ConnectionClosed

from ffsplat.stream.protocol.control import Bye, Flush, Hello, Query, dump
from ffsplat.stream.protocol.frames import frame_message
from ffsplat.stream.protocol.header import pack
from tests.stream.server.talk import ask, client, frame, serving

CODES = {1000, 1002, 1007, 1009, 4400, 4401, 4408, 4409, 4413, 4429}
"""All that a server may close with when a client misbehaves."""


def damaged(random: np.random.Generator) -> bytes | str:
    """A good message with some bytes changed, cut off, doubled or put in another place."""
    texts = [Hello(), Query(1, "red chair", threshold=0.5), Flush(2), Bye()]
    pose = frame_message(frame(int(random.integers(9)), pose=np.eye(4), intrinsics=np.eye(3)))
    good = [*(dump(one).encode() for one in texts), pack(pose), pack(pose, compress=True)]
    kind = int(random.integers(len(good)))
    data = bytearray(good[kind])
    for _ in range(int(random.integers(1, 4))):
        place = int(random.integers(len(data) + 1))
        match int(random.integers(4)):
            case 0:
                data[place : place + 1] = bytes([int(random.integers(256))])
            case 1:
                del data[place:]
            case 2:
                data[place:place] = data[place : place + 20]
            case 3:
                data[place:place] = random.bytes(int(random.integers(40)))
    return bytes(data) if kind >= len(texts) else data.decode("latin-1")


def test_noise_ends_sessions_with_known_codes_and_nothing_else(caplog):
    random = np.random.default_rng(7)
    closed: dict[int | None, int] = {}
    with caplog.at_level(logging.ERROR), serving() as (_, address):
        for _ in range(150):
            with client(address) as one:
                if random.random() < 0.8:
                    one.greet(want=())
                try:
                    for _ in range(int(random.integers(1, 6))):
                        one.send(damaged(random))
                    one.send(Bye())
                    code = one.closed()[0]
                except ConnectionClosed as end:
                    code = end.rcvd.code if end.rcvd else None
                closed[code] = closed.get(code, 0) + 1
        status, found = ask(address, "/healthz")
        with client(address) as one:
            one.greet()
    assert status == 200
    assert json.loads(found.split(b"\r\n\r\n", 1)[1])["alive"]
    assert not [record for record in caplog.records if record.name.startswith("ffsplat")]
    assert set(closed) <= CODES
    assert closed[4400] > 50
