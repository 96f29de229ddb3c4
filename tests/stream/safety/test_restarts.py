"""Cuts and restarts: what is followed is the map, to the byte, however often the line breaks."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ffsplat.stream.client import Client
from ffsplat.stream.delta import MapDelta
from ffsplat.stream.engine.checkpoint import resume
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.protocol.blocks import encode_delta
from ffsplat.stream.protocol.control import Ack, Flush, Flushed
from ffsplat.stream.replica.replica import Replica
from tests.stream.safety.figures import Figure, percentile
from tests.stream.safety.stack import BOUNDS, Stack, mapper, predictor, stack, step
from tests.stream.server.talk import Client as Talker
from tests.stream.server.talk import client, same_map

CLOSE = 1e-4
"""Sums may be made in another order after a restart, which shows in the last digits."""


def document(delta: MapDelta) -> bytes:
    """All that a snapshot says but its number, which counts what one process gave out."""
    return b"".join(encode_delta(replace(delta, number=1, time_ns=0)))


async def film(one: Client, numbers: range) -> None:
    """Send frames, a few at a time, and wait until their map is here."""
    for number in numbers:
        frame = step(number)
        await one.send_frame(frame.image, time_ns=frame.time_ns)
        if number % 3 == 2:
            await one.flush()
    await one.flush()


def followers(frames: int) -> Figure:
    """Three who follow: from the beginning, from the middle, and with cuts all the time."""
    told, cuts = Replica(), []

    def take(delta: MapDelta) -> None:
        told.apply(delta)

    async def walk(served: Stack) -> list[Replica]:
        url = served.address.stream
        async with Client(url) as camera, Client(url, role="viewer") as cut:
            await film(camera, range(frames // 2))
            async with Client(url, role="viewer") as late:
                for number in range(frames // 2, frames):
                    if cut._connection is not None:  # it is not on its way back already
                        cut._connection.transport.abort()
                        cuts.append(number)
                    frame = step(number)
                    await camera.send_frame(frame.image, time_ns=frame.time_ns)
                    await camera.flush()
                for one in (late, cut):
                    async with asyncio.timeout(30):
                        while one.replica.number < camera.replica.number:
                            await anext(one)
                return [camera.replica, late.replica, cut.replica]

    with stack(settings=EngineSettings(drop="block"), max_queries=1e4) as served:
        unsubscribe = served.engine.subscribe(take)
        maps = asyncio.run(walk(served))
        unsubscribe()
    same = [same_map(one, told) for one in maps]
    return Figure(
        f"S15 deltas of {frames} frames replayed by three clients",
        "the snapshot, byte for byte",
        f"early {same[0]}, late {same[1]}, cut {len(cuts)} times {same[2]}; "
        f"{len(told)} splats, delta {told.number}",
        all(same) and len(told) > 0 and len(cuts) > 1,
    )


def restarted(folder: Path, frames: int) -> Figure:
    """A stream that is ended and goes on from its state, beside one that never was."""
    half, ended = frames // 2, []
    settings = EngineSettings(drop="block", checkpoint=folder, checkpoint_every=4)
    for numbers in (range(half), range(half, frames)):
        mapped = resume(folder, lambda path: Mapper.load(path, predictor(), BOUNDS)) or mapper()
        with stack(mapped, settings) as served, client(served.address) as one:
            one.greet(want=("delta", "ack"), drop="block")
            follow(one, numbers)
            ended.append(one.map)
    whole_way = mapper()
    with stack(whole_way, EngineSettings(drop="block")) as served, client(served.address) as one:
        one.greet(want=("delta", "ack"), drop="block")
        follow(one, range(frames))
        straight = one.map
    apart = difference(ended[1], straight)
    return Figure(
        f"S15 {frames} frames with a restart in the middle",
        f"the map without one, to {CLOSE:g} units",
        f"{apart:.1e} apart, {len(straight)} splats",
        apart <= CLOSE and len(straight) > len(ended[0]) > 0,
    )


def difference(one: Replica, other: Replica) -> float:
    """How far Gaussians and cameras of two maps are apart; 0 if the maps are the same to the byte.

    Infinite if they do not have the same Gaussians of the same submaps, and the same cameras.
    """
    a, b = one.snapshot(), other.snapshot()
    if document(a) == document(b):
        return 0.0
    names = [(s.splats.gids, s.splats.submaps, s.submaps, s.frames.numbers) for s in (a, b)]
    if not all(np.array_equal(left, right) for left, right in zip(*names, strict=True)):
        return float("inf")
    values = [(s.splats.means, s.submap_poses, s.frames.poses) for s in (a, b)]
    return max(float(np.abs(left - right).max()) for left, right in zip(*values, strict=True))


def follow(one: Talker, numbers: range) -> None:
    """Send frames one by one, and read until the map holds all of them."""
    for number in numbers:
        one.send(step(number))
        one.wait_for(Ack)
    one.send(Flush(1))
    one.follow(one.wait_for(Flushed).number)


def resumed(cuts: int) -> Figure:
    """How long our client needs after a cut until it has what came meanwhile."""
    seconds: list[float] = []

    async def walk(served: Stack) -> bool:
        url = served.address.stream
        async with Client(url) as camera, Client(url, role="viewer", want=("delta",)) as viewer:
            await film(camera, range(10))
            for number in range(10, 10 + cuts):
                viewer._connection.transport.abort()  # type: ignore[union-attr]
                began = time.monotonic()
                frame = step(number)
                await camera.send_frame(frame.image, time_ns=frame.time_ns)
                await camera.flush()
                async with asyncio.timeout(30):
                    while viewer.replica.number < camera.replica.number:
                        await anext(viewer)
                seconds.append(time.monotonic() - began)
            return same_map(viewer.replica, camera.replica)

    with stack(settings=EngineSettings(drop="block"), max_queries=1e4) as served:
        same = asyncio.run(walk(served))
    return Figure(
        f"S15 a client that was cut off {cuts} times",
        "goes on <= 1 s",
        f"{percentile(seconds, 0.5):.2f} s median, {max(seconds):.2f} s at most, "
        f"then {'the same' if same else 'ANOTHER'} map",
        max(seconds) <= 1.0 and same,
    )


def test_all_who_follow_have_the_map_to_the_byte():
    figure = followers(16)
    assert figure.holds, figure


def test_a_restart_leaves_no_trace_in_the_map(tmp_path):
    figure = restarted(tmp_path / "states", 40)
    assert figure.holds, figure


def test_a_client_that_was_cut_off_goes_on_at_once():
    figure = resumed(4)
    assert figure.holds, figure


def figures() -> list[Figure]:
    """All of them at full size."""
    with TemporaryDirectory() as folder:
        return [followers(60), restarted(Path(folder) / "states", 200), resumed(30)]
