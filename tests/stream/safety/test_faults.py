"""A network that fails, disks that are full, clocks that jump: a frame is lost, not the stream."""

import logging
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from ffsplat.prediction import Prediction
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.protocol.control import Ack
from ffsplat.types import Views
from tests.stream.safety.figures import MIB, Figure
from tests.stream.safety.lives import Nursery
from tests.stream.safety.stack import (
    BOUNDS,
    Stack,
    mapper,
    predictor,
    stack,
    step,
    totals,
    until,
    walk,
)
from tests.stream.server.talk import ask, client
from tests.stream.stub import StubPredictor

BAD = 8
"""The frame at which it fails, and some after it."""

TENSORS = (
    "depth", "depth_error", "world_from_camera", "intrinsics", "offsets", "scales",
    "quaternions_wxyz", "opacities", "colors", "whole_logits", "part_logits", "instances",
    "descriptors", "token_descriptors", "features",
)  # fmt: skip
"""All that the network of these tests says."""


@dataclass(eq=False)
class Failing(StubPredictor):
    """Calls a fault with what it would say, when the newest view shows the place of one."""

    spoils: dict[int, Callable[[Prediction], Prediction]] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)

    def predict(self, views: Views, placed: int = 0) -> Prediction:
        said = super().predict(views)
        place = int(self.look_up(views.pixels)[-1])
        if place not in self.spoils:
            return said
        self.failed.append(place)
        return self.spoils[place](said)


def raises(_: Prediction) -> Prediction:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def out_of_memory(_: Prediction) -> Prediction:
    raise torch.OutOfMemoryError("tried to allocate 2 GiB")


def spoiled(name: str, value: float, all_of_it: bool) -> Callable[[Prediction], Prediction]:
    """A fault that puts NaN or infinity into one tensor, all of it or one number."""

    def spoil(said: Prediction) -> Prediction:
        tensor = getattr(said, name).clone()
        if all_of_it:
            tensor[:] = value
        else:
            tensor[0, -1].view(-1)[7 % tensor[0, -1].numel()] = value
        return replace(said, **{name: tensor})

    return spoil


@dataclass
class Outcome:
    """What became of frames, by number; and whether it was said to be degraded meanwhile."""

    reasons: dict[int, str] = field(default_factory=dict)
    degraded: bool = False

    def used(self, first: int = 0) -> int:
        return sum(r in ("keyframe", "tracked") for n, r in self.reasons.items() if n >= first)


def film(
    served: Stack, numbers: range, clock: Callable[[int], int] = lambda n: n * 100_000_000
) -> Outcome:
    """Send frames one by one, and hear of each."""
    found = Outcome()
    with client(served.address) as one:
        one.greet(want=("ack",), drop="block")
        for number in numbers:
            one.send(step(number, time_ns=clock(number)))
            found.reasons |= {ack.seq: ack.reason for ack in one.wait_for(Ack).frames}
            found.degraded |= served.engine.degraded
    return found


def broken(what: str, fault: Callable[[Prediction], Prediction], reason: str, **more) -> Figure:
    """A network that fails at one frame, and is well again."""
    plain = predictor()
    network = Failing(plain.places, resolution=64, spoils={BAD: fault})
    settings = EngineSettings(drop="block", degraded_s=0.3, **more)
    mapper = Mapper(network, BOUNDS)
    with stack(mapper, settings) as served:
        found = film(served, range(24))
        health = ask(served.address, "/healthz")[0]
        until(lambda: not served.engine.degraded, 10.0)
    finite = all_finite(mapper)
    return Figure(
        f"S14 a network that {what} at frame {BAD}",
        f"{reason}, degraded, recovers",
        f"{found.reasons[BAD]}, {'' if found.degraded else 'not '}degraded, "
        f"{found.used(BAD + 1)} of 15 used after, map {'finite' if finite else 'NOT finite'}",
        found.reasons[BAD] == reason and found.degraded and found.used(BAD + 1) >= 13 and finite
        and health == 200 and network.failed == [BAD],
    )  # fmt: skip


def all_finite(mapper: Mapper) -> bool:
    """Whether every number of a map is one, and its codes are of its codebook."""
    scene = mapper.scene()
    assert scene.codes is not None
    assert scene.codebook is not None
    shapes = [np.asarray(one) for one in vars(scene.gaussians).values() if one is not None]
    weights, ids = np.asarray(scene.codes.weights, np.float32), scene.codes.ids
    finite = all(np.isfinite(one).all() for one in [*shapes, weights])
    return finite and bool((ids < len(scene.codebook)).all())


def hangs(seconds: float, patience: float) -> Figure:
    """A network that does not come back for a while."""
    gate = threading.Event()

    def hang(said: Prediction) -> Prediction:
        gate.wait(seconds)
        return said

    return broken(f"hangs for {seconds:g} s", hang, "timeout", hang_s=patience)


def poisoned(name: str, frames: int, *values: tuple[float, bool]) -> Figure:
    """A network of which one output is no number: whatever becomes of it, the map stays sound.

    It fails once with each value, in all of the output or in one number of it.
    """
    spoils = {BAD + 4 * i: spoiled(name, *value) for i, value in enumerate(values)}
    network = Failing(predictor().places, resolution=64, spoils=spoils)
    mapper = Mapper(network, BOUNDS)
    with stack(mapper, EngineSettings(drop="block", degraded_s=0.1)) as served:
        found = film(served, range(frames))
        answer = ask(served.address, "/healthz")[0]
    finite = all_finite(mapper)
    reasons = {found.reasons[number] for number in spoils}
    named = reasons == {"not_finite"} or name.endswith("logits")
    first, texts = max(spoils) + 1, [f"{'all' if all_ else 'once'} {x}" for x, all_ in values]
    return Figure(
        f"S14 {name} {', '.join(texts)}",
        "map stays sound" if name.endswith("logits") else "not_finite, map stays sound",
        f"{', '.join(sorted(reasons))}, {found.used(first)} of {frames - first} used after, "
        f"map {'finite' if finite else 'NOT finite'}",
        named and finite and answer == 200 and found.used(first) >= frames - first - 2
        and set(network.failed) == set(spoils),
    )  # fmt: skip


@contextmanager
def small_disk(size: int = MIB) -> Iterator[Path]:
    """A folder on a disk that is full soon; skips where none can be mounted."""
    with TemporaryDirectory() as folder:
        options = ["-t", "tmpfs", "-o", f"size={size}", "ffsplat-test", folder]
        try:
            subprocess.run(["mount", *options], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("a small disk cannot be mounted here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True, capture_output=True)


def full_checkpoints(frames: int) -> Figure:
    """A disk on which no state has room."""
    with small_disk() as folder:
        settings = EngineSettings(drop="block", checkpoint=folder / "states", checkpoint_every=2)
        with stack(settings=settings) as served:
            found = film(served, range(frames))
            text = ask(served.address, "/metrics")[1].split(b"\r\n\r\n", 1)[1].decode()
            ready = ask(served.address, "/readyz")[0]
        failures = totals(text)["ffsplat_checkpoint_failures_total"]
        left = [path.name for path in (folder / "states").iterdir() if path.suffix == ".tmp"]
    return Figure(
        f"S14 checkpoints on a full disk, {frames} frames",
        "keeps serving, alarm metric",
        f"{found.used()} used, ready {ready}, {failures:g} failures counted, "
        f"{len(left)} left half-done",
        found.used() >= frames - 2 and failures >= 1 and ready == 200 and not left,
    )


def full_recording(nursery: Nursery, frames: int) -> Figure:
    """A recording, and states, that reach the largest size a file may have."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "out.mcap"
        life = nursery.live(
            "--record", path, "--checkpoint", Path(folder) / "states", "--checkpoint-every", 3,
            largest=MIB,
        )  # fmt: skip
        reasons: Counter[str] = Counter()
        with client(life.address) as one:
            one.greet(want=("ack",), drop="block")
            for number in range(frames):
                one.send(step(number))
                reasons.update(ack.reason for ack in one.wait_for(Ack).frames)
        text = ask(life.address, "/metrics")[1].split(b"\r\n\r\n", 1)[1].decode()
        failures = totals(text)["ffsplat_checkpoint_failures_total"]
        used = reasons["keyframe"] + reasons["tracked"]
        code = life.end()
        said = " ".join(line for line in life.said if line.startswith(("error", "warning")))
        size = path.stat().st_size
    return Figure(
        f"S14 recording and checkpoints on a full disk, {frames} frames",
        "keeps serving, told at the end",
        f"{used} used, {failures:g} failures, recording {size / MIB:.2f} MiB, "
        f"exit {code}: {said[:90]}",
        used >= frames - 2 and failures >= 1 and size <= MIB and code not in (0, -11, -6)
        and "Traceback" not in "".join(life.said),
    )  # fmt: skip


def lies(frames: int) -> Figure:
    """Poses of frames that have nothing to do with the way of the camera, and then none."""
    draw = np.random.default_rng(1)
    mapped = mapper()
    reasons: Counter[str] = Counter()
    for number in range(3 * frames):
        pose = None
        if frames <= number < 2 * frames:
            pose = np.eye(4)
            pose[:3, 3] = draw.choice([0.0, 1.0, 1e9, -1e9], 3)
        image = walk().frame(number).image
        verdict = mapped.add(image, number * 10**8, pose, number=number)
        reasons[verdict.reason] += number >= 2 * frames
    used = reasons["keyframe"] + reasons["tracked"]
    return Figure(
        f"S5 {frames} poses that lie by up to 1e9 m",
        "mapping goes on",
        f"{used} of {frames} frames used after",
        used >= 0.9 * frames and all_finite(mapped),
    )


HOUR = 3600 * 10**9
CLOCKS: dict[str, Callable[[int], int]] = {
    "forward by hours": lambda n: n * 10**8 + (n >= 10) * 5 * HOUR,
    "back by hours": lambda n: n * 10**8 + 9 * HOUR - (n >= 10) * 5 * HOUR,
    "to and fro": lambda n: n * 10**8 + 9 * HOUR + (n == 10) * 7 * HOUR - (n == 12) * 7 * HOUR,
    "to both ends of 64 bits": lambda n: {10: 2**63 - 1, 12: -(2**63)}.get(n, n * 10**8),
    "not at all": lambda n: 7,
    "from 1970 to now": lambda n: n * 10**8 + (n >= 10) * 1_700_000_000 * 10**9,
}


def clock(what: str) -> Figure:
    """A camera whose clock jumps in the middle of its walk."""
    with stack() as served:
        found = film(served, range(40), CLOCKS[what])
        counts = totals(served.engine.metrics())
    lost = Counter(r for r in found.reasons.values() if r not in ("keyframe", "tracked"))
    return Figure(
        f"S14 a clock that jumps {what}",
        "<= 6 of 40 frames lost, by name",
        f"{dict(lost) or 'none'} lost, {counts['ffsplat_clock_jumps_total']:g} jumps counted",
        lost.total() <= 6 and set(lost) <= {"late", "lost"} and found.used(30) == 10,
    )


FAULTS = {
    "raises": (raises, "model_error"),
    "has no memory": (out_of_memory, "model_error"),
    "returns NaN": (spoiled("depth", float("nan"), True), "not_finite"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_network_that_fails_costs_one_frame(what):
    figure = broken(what, *FAULTS[what])
    assert figure.holds, figure


def test_a_network_that_hangs_costs_one_frame():
    figure = hangs(1.5, 0.5)
    assert figure.holds, figure


@pytest.mark.parametrize("name", TENSORS)
def test_no_output_of_a_network_can_spoil_the_map(name, caplog):
    caplog.set_level(logging.CRITICAL)
    figure = poisoned(name, 22, (float("nan"), True), (float("inf"), False))
    assert figure.holds, figure


def test_a_full_disk_costs_checkpoints_alone():
    figure = full_checkpoints(20)
    assert figure.holds, figure


def test_a_full_disk_costs_the_recording_alone(nursery):
    figure = full_recording(nursery, 60)
    assert figure.holds, figure


def test_poses_that_lie_do_not_spoil_the_map():
    figure = lies(20)
    assert figure.holds, figure


@pytest.mark.parametrize("what", CLOCKS)
def test_a_clock_that_jumps_costs_few_frames(what):
    figure = clock(what)
    assert figure.holds, figure


def figures(nursery: Nursery) -> list[Figure]:
    """All of them at full size."""
    assert os.geteuid() == 0, "the full disk is mounted by root"
    found = [broken(what, *fault) for what, fault in FAULTS.items()]
    found.append(hangs(5.0, 2.0))
    for name in TENSORS:
        for value in (float("nan"), float("inf"), float("-inf")):
            found += [poisoned(name, 30, (value, all_of_it)) for all_of_it in (True, False)]
    found += [full_checkpoints(60), full_recording(nursery, 120)]
    return [*found, lies(100), *map(clock, CLOCKS)]
