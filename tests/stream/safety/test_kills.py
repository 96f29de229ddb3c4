"""`kill -9` at any instant: each life goes on from what the one before saved."""

import os
import random
import select
import signal
from dataclasses import dataclass, field
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from ffsplat.stream.checkpoint import KEPT, resume
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.protocol.control import Ack
from ffsplat.stream.settings import MapperSettings
from tests.stream.safety.figures import Figure
from tests.stream.safety.lives import Life, Nursery
from tests.stream.safety.stack import predictor, step
from tests.stream.server.talk import client

KILLS = int(os.environ.get("FFSPLAT_SAFETY_KILLS", "3"))
EVERY = 4
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
    settings = MapperSettings(max_splats=60_000, window=6)
    return resume(folder, lambda path: Mapper.load(path, predictor(), settings))


def kill_often(nursery: Nursery, folder: Path, kills: int, seed: int = 0) -> Figure:
    """Kill so many lives; the most keyframes that one of them cost."""
    draw, camera, lost, damaged, longest = random.Random(seed), Camera(), [], 0, 0
    for _ in range(kills):
        life = nursery.live("--checkpoint", folder, "--checkpoint-every", EVERY, "--resume")
        camera.film(life, draw)
        mapper = saved(folder)
        damaged += any("passed over" in line for line in life.said)
        frames = set() if mapper is None else set(mapper.trajectory().numbers.tolist())
        last = max(frames, default=-1)
        lost.append(sum(number > last for number in camera.keyframes))
        damaged += not {number for number in camera.used if number <= last} <= frames
        longest = max(longest, len(frames))
        # What was lost is lost: the next life answers for what it was told itself.
        camera.used = {number for number in camera.used if number <= last}
        camera.keyframes = {number for number in camera.keyframes if number <= last}
        assert len(list(folder.iterdir())) <= KEPT + 2
    last_life = nursery.live("--checkpoint", folder, "--resume")
    assert last_life.address.port
    assert last_life.end() == 128 + signal.SIGTERM, last_life.said
    return Figure(
        f"{kills} times kill -9 of `ffsplat stream --checkpoint --resume`",
        f"<= {EVERY} keyframes lost, 0 corrupt",
        f"{max(lost)} lost at most, {damaged} corrupt, {longest} frames in the last map",
        max(lost) <= EVERY and not damaged and longest > 0,
    )


def test_a_kill_at_any_instant_loses_few_keyframes_and_corrupts_nothing(nursery, tmp_path):
    figure = kill_often(nursery, tmp_path / "states", KILLS)
    assert figure.holds, figure
