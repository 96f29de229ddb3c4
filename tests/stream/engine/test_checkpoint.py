"""Checkpoints: when, under which names, after which failures; and after kills at any instant."""

import json
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.io.atomic import atomic_output
from ffsplat.stream.engine.checkpoint import KEPT, PATIENCE_S, Checkpoints, resume

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """Tells the time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def saver(text: str):
    """What writes a state that is only a text."""

    def save(path: Path) -> Path:
        with atomic_output(path) as file:
            file.write(text.encode())
        return path

    return save


def full(path: Path) -> Path:
    raise OutputError("no space left")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(path: Path) -> str:
    text = path.read_text()
    if text == "damaged":
        raise SceneFileError("damaged")
    return text


def test_a_save_is_due_after_every_so_many_keyframes(tmp_path):
    checkpoints = Checkpoints(tmp_path, 3)
    due = []
    for _ in range(7):
        checkpoints.add(is_keyframe=True)
        due.append(checkpoints.due)
        if checkpoints.due:
            assert checkpoints.save(saver("state"))
    assert due == [False, False, True, False, False, True, False]
    assert checkpoints.behind


def test_frames_that_were_merely_tracked_are_saved_at_the_end(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1)
    assert not checkpoints.behind
    checkpoints.add(is_keyframe=False)
    assert (checkpoints.due, checkpoints.behind) == (False, True)
    checkpoints.save(saver("state"))
    assert not checkpoints.behind


def test_the_newest_are_kept_and_the_others_go(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1)
    for text in "abc":
        assert checkpoints.save(saver(text))
    assert names(tmp_path) == ["map-00000002.safetensors", "map-00000003.safetensors"]
    assert len(names(tmp_path)) == KEPT
    assert resume(tmp_path, read) == "c"


def test_numbers_go_on_after_a_restart(tmp_path):
    Checkpoints(tmp_path, 1).save(saver("a"))
    Checkpoints(tmp_path, 1).save(saver("b"))
    assert resume(tmp_path, read) == "b"


def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, 1)
    for text in ("good", "damaged"):
        checkpoints.save(saver(text))
    assert resume(tmp_path, read) == "good"
    assert "map-00000002" in caplog.text
    checkpoints.save(saver("new"))
    assert resume(tmp_path, read) == "new"


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path):
    assert resume(tmp_path, read) is None
    assert resume(tmp_path / "missing", read) is None


def test_a_stream_does_not_start_anew_over_damaged_checkpoints(tmp_path):
    Checkpoints(tmp_path, 1).save(saver("damaged"))
    with pytest.raises(SceneFileError, match=r"no checkpoint .* can be used: damaged"):
        resume(tmp_path, read)


def test_after_a_failure_it_is_tried_again_ever_later(tmp_path):
    clock = Clock()
    checkpoints = Checkpoints(tmp_path, 1, clock)
    checkpoints.add(is_keyframe=True)
    waits = []
    for _ in range(9):
        assert not checkpoints.save(full)
        failed = clock.now
        while not checkpoints.due:
            clock.now += 1
        waits.append(clock.now - failed)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert checkpoints.failures == 9
    assert checkpoints.age_s == clock.now
    assert checkpoints.save(saver("state"))
    assert (checkpoints.age_s, checkpoints.behind) == (0, False)
    checkpoints.add(is_keyframe=True)
    assert not checkpoints.save(full)
    clock.now += PATIENCE_S[0]
    assert checkpoints.due


def test_a_failure_leaves_the_last_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(saver("good"))
    checkpoints.save(full)
    assert resume(tmp_path, read) == "good"


def test_only_its_own_leftovers_are_swept_up(tmp_path):
    for name in (".map-00000001.safetensors.12ab34cd.tmp", "map-notes.txt", "other.tmp"):
        (tmp_path / name).write_text("x")
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.prepare()
    for text in "abc":
        checkpoints.save(saver(text))
    assert "map-notes.txt" in names(tmp_path)
    assert "other.tmp" in names(tmp_path)
    assert len(names(tmp_path)) == 2 + KEPT


def test_a_folder_that_cannot_be_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "missing" / "deep"):
        with pytest.raises(OutputError) as caught:
            Checkpoints(folder, 1).prepare()
        assert caught.value.hint


@pytest.mark.parametrize("missing", [os.R_OK, os.W_OK, os.X_OK])
def test_a_folder_without_all_rights_is_refused_at_the_start(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & missing)
    with pytest.raises(OutputError, match=r"no checkpoints in .*: Permission denied") as caught:
        Checkpoints(tmp_path, 1).prepare()
    assert "permissions" in str(caught.value.hint)


def test_a_folder_that_may_not_be_looked_into_is_no_empty_one(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "glob", refuse)
    with pytest.raises(OutputError, match=r"no checkpoints in .*: Permission denied"):
        resume(tmp_path, Path.read_text)


EVERY, KILLS, SIZE = 4, 50, 1 << 18

PROGRAM = f"""
import json, os, sys
from pathlib import Path

from ffsplat.io.atomic import atomic_output
from ffsplat.stream.engine.checkpoint import resume
from ffsplat.stream.engine.engine import Engine, EngineSettings
from tests.stream.mappers import StandIn, frame

folder = Path(sys.argv[1])


class Counting(StandIn):
    "Its state is a number, written many times over; each keyframe tells it to the parent."

    def add(self, *arguments, **more):
        verdict = super().add(*arguments, **more)
        os.write(1, json.dumps(["keyframe", self.keyframes]).encode() + b"\\n")
        return verdict

    def save(self, path):
        with atomic_output(path) as file:
            for _ in range({SIZE} // 8):
                file.write(self.keyframes.to_bytes(8, "little"))
        return path


def load(path):
    parts = path.read_bytes()
    if len(parts) != {SIZE} or parts != parts[:8] * ({SIZE} // 8):
        raise ValueError("not whole")
    return int.from_bytes(parts[:8], "little")


def stream():
    mapper = Counting()
    mapper.keyframes = resume(folder, load) or 0
    os.write(1, json.dumps(["resumed", mapper.keyframes]).encode() + b"\\n")
    settings = EngineSettings(drop="block", checkpoint=folder, checkpoint_every={EVERY})
    engine = Engine(mapper, settings)
    engine.start()
    for number in range(1_000_000):
        engine.offer(frame(number))


for _ in sys.stdin:  # a line for each life; what is imported is there already
    child = os.fork()
    if child == 0:
        stream()
    os.write(1, json.dumps(["child", child]).encode() + b"\\n")
    os.waitpid(child, 0)
    os.write(1, json.dumps(["dead", 0]).encode() + b"\\n")
"""


def test_kills_at_any_instant_lose_few_keyframes_and_never_corrupt(tmp_path):
    """The same state through 50 lives: each goes on from what the one before left."""
    draw = random.Random(0)
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    reached, lost = 0, []
    try:
        for _ in range(KILLS):
            parent.stdin.write(b"live\n")
            parent.stdin.flush()
            first, lines = one_life(parent.stdout, draw)
            lost.append(reached - first)
            reached = max([first, *lines])
            assert len(list(tmp_path.iterdir())) <= KEPT + 2  # one half-done, one not yet swept
    finally:
        parent.stdin.close()
        parent.stdout.close()
        parent.wait(10)
    assert all(0 <= one <= EVERY for one in lost), lost
    assert reached > KILLS


def one_life(output, draw: random.Random) -> tuple[int, list[int]]:
    """Kill a child after some keyframes and a moment; the state it began with, and those it had."""
    child, first, keyframes = None, None, []
    target, moment = draw.randrange(12), draw.uniform(0, 2e-3)
    while True:
        what, value = json.loads(output.readline())
        if what == "dead":
            assert first is not None
            return first, keyframes
        if what == "child":
            child = value
        elif what == "resumed":
            first = value
        else:
            keyframes.append(value)
        if child and first is not None and len(keyframes) >= target:
            select.select([], [], [], moment)
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                child = None
            target = 1 << 30
