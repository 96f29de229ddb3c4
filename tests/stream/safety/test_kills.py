"""`kill -9` at any instant: each life goes on from what the one before saved."""

import os
import random
import select
import signal
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from websockets.exceptions import ConnectionClosed

from ffsplat.stream.engine.checkpoint import KEPT, resume
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.protocol.control import Ack
from ffsplat.stream.settings import MapperSettings
from tests.stream.safety.figures import Figure
from tests.stream.safety.lives import Life, Nursery
from tests.stream.safety.stack import predictor, step
from tests.stream.server.talk import client

KILLS = int(os.environ.get("FFSPLAT_SAFETY_KILLS", "3"))
EVERY = 4
LIVES = 10
"""From one folder: much later all of the room is known, and no frame is a keyframe."""

HERTZ = 50
OPEN = 3
"""Frames that a camera lets be without a verdict."""


@dataclass
class Camera:
    """Walks on through all lives; knows what it was told of its frames."""

    number: int = 0
    used: set[int] = field(default_factory=set)
    keyframes: set[int] = field(default_factory=set)

    def film(self, life: Life, draw: random.Random) -> None:
        """Send frames until so many were keyframes; then kill, in the middle of whatever it is."""
        target, moment = draw.randrange(1, 3 * EVERY), draw.uniform(0, 0.03)
        found, waiting = 0, 0
        address = life.address
        try:
            with client(address) as one:
                one.greet(want=("ack",), drop="block")
                while found < target:
                    while waiting < OPEN:
                        select.select([], [], [], 1 / HERTZ)
                        one.send(step(self.number))
                        self.number, waiting = self.number + 1, waiting + 1
                    acks = one.wait_for(Ack).frames
                    waiting -= len(acks)
                    self.used |= {ack.seq for ack in acks if ack.used}
                    new = {ack.seq for ack in acks if ack.reason == "keyframe"}
                    self.keyframes |= new
                    found += len(new)
                select.select([], [], [], moment)
                os.kill(life.pid, signal.SIGKILL)
                while True:  # what it said before it died counts
                    for ack in one.wait_for(Ack).frames:
                        self.used |= {ack.seq} if ack.used else set()
                        self.keyframes |= {ack.seq} if ack.reason == "keyframe" else set()
        except ConnectionClosed:
            assert life.wait() == -signal.SIGKILL


def saved(folder: Path) -> Mapper | None:
    """What the next life will begin with."""
    settings = MapperSettings(max_splats=60_000)
    return resume(folder, lambda path: Mapper.load(path, predictor(), settings))


@dataclass
class Toll:
    """What so many kills cost."""

    lost: list[int] = field(default_factory=list)
    corrupt: int = 0
    longest: int = 0


def kill(nursery: Nursery, folder: Path, camera: Camera, draw: random.Random, toll: Toll) -> None:
    """One life that goes on from a folder, and its end; then look at what it left."""
    life = nursery.live("--checkpoint", folder, "--checkpoint-every", EVERY, "--resume")
    camera.film(life, draw)
    assert len(list(folder.iterdir())) <= KEPT + 2  # one half-done, one not yet swept
    mapper = saved(folder)
    frames = set() if mapper is None else set(mapper.trajectory().numbers.tolist())
    last = max(frames, default=-1)
    toll.lost.append(sum(number > last for number in camera.keyframes))
    # What was lost is lost: the next life answers for what it was told itself.
    camera.used = {number for number in camera.used if number <= last}
    camera.keyframes = {number for number in camera.keyframes if number <= last}
    toll.corrupt += not camera.used <= frames
    toll.corrupt += any("passed over" in line for line in life.said)
    toll.longest = max(toll.longest, len(frames))


def kill_often(nursery: Nursery, folder: Path, kills: int, seed: int = 0) -> Figure:
    """Kill so many lives, LIVES of them in each folder; the most keyframes that one cost."""
    draw, toll = random.Random(seed), Toll()
    for first in range(0, kills, LIVES):
        camera, states = Camera(), folder / f"{first}"
        for _ in range(first, min(kills, first + LIVES)):
            kill(nursery, states, camera, draw, toll)
        life = nursery.live("--checkpoint", states, "--resume")
        assert life.address.port
        assert life.end() == 128 + signal.SIGTERM, life.said
    return Figure(
        f"{kills} times kill -9 of `ffsplat stream --checkpoint --resume`",
        f"<= {EVERY} keyframes lost, 0 corrupt",
        f"{max(toll.lost)} lost at most, {toll.corrupt} corrupt, {toll.longest} frames at most",
        max(toll.lost) <= EVERY and not toll.corrupt and toll.longest > 0,
    )


def test_a_kill_at_any_instant_loses_few_keyframes_and_corrupts_nothing(nursery, tmp_path):
    figure = kill_often(nursery, tmp_path, KILLS)
    assert figure.holds, figure


def figures(nursery: Nursery, kills: int = 50) -> list[Figure]:
    """At full size."""
    with TemporaryDirectory() as folder:
        return [kill_often(nursery, Path(folder), kills, 1)]
