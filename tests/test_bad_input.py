"""Hostile files, full disks, signals and odd environments, end to end through the process.

Whatever happens: one `error:` line, one `hint:` line, the right exit code, no traceback,
and at the final name the whole old file, the whole new file, or nothing.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command import Outcome, run
from small_room import small_room
from untrained import save_photos, save_untrained

from ffsplat.io import load_scene, save_scene, sidecar_path
from ffsplat.types import Codebook

INTERRUPTS = 12
PROMPT_SECONDS = 20  # a machine under load; the aim is 3
UNBORN = ("Fatal Python error: init_", "Could not import runpy module")
"""What Python says of an interrupt before it runs a program."""


def process(*arguments: object, **settings) -> Outcome:
    """`ffsplat ARGUMENTS` as a process of its own."""
    command = [sys.executable, "-m", "ffsplat", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)
    return Outcome(done.returncode, done.stdout, done.stderr)


def assert_refused(outcome: Outcome, code: int, *told: str) -> None:
    """It failed in one line, with this exit code, and told these things."""
    assert outcome.code == code, outcome.err
    lines = outcome.err.splitlines()
    assert lines[0].startswith("error: ")
    assert "internal" not in lines[0]
    assert len(lines) == 2, lines
    assert lines[1].startswith("hint: ")
    for text in told:
        assert text in outcome.err


@pytest.fixture
def room(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    save_scene(small_room(), folder / "room.ply")
    return folder / "room.ply"


@pytest.fixture(scope="module")
def big_room(tmp_path_factory) -> Path:
    """A scene whose copy does not fit on the small disk below."""
    path = tmp_path_factory.mktemp("big") / "room.ply"
    save_scene(small_room(100_000), path)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("models") / "untrained")


# Files that are not what they should be


def truncated(content: bytes) -> bytes:
    return content[:-1]


def with_count(count: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(
        b"element vertex 1000", f"element vertex {count}".encode()
    )


DAMAGE = {
    "empty": lambda content: b"",
    "not a PLY": lambda content: b"\x89PNG\r\n" + content,
    "truncated": truncated,
    "trailing": lambda content: content + b"x",
    "2^31 rows": with_count(str(2**31)),
    "2^63 rows": with_count(str(2**63)),
    "-1 rows": with_count("-1"),
    "1e9 rows": with_count("1e9"),
    "no rows": with_count("0"),
    "no end": lambda content: content.replace(b"end_header", b"end_headed"),
    "NaN": lambda content: content[: -4 * 23] + np.full(23, np.nan, "<f4").tobytes(),
    "foreign ID": lambda content: content[: -4 * 9] + np.full(9, 9999, "<f4").tobytes(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_scene_is_refused(room: Path, tmp_path: Path, damage: str):
    content = room.read_bytes()
    damaged = DAMAGE[damage](content)
    assert damaged != content
    room.write_bytes(damaged)
    out = tmp_path / "out.ply"
    assert_refused(run("query", room, "table", "--out", out), 1, "room.ply")
    assert not out.exists()
    assert run("check", room).code == 1


def test_a_missing_scene_a_folder_and_a_pipe(tmp_path: Path):
    pipe = tmp_path / "pipe.ply"
    os.mkfifo(pipe)
    for path in (tmp_path / "none.ply", tmp_path, pipe):
        for arguments in (["query", path, "table"], ["check", path], ["info", path]):
            assert_refused(run(*arguments), 1, str(path))


def test_the_codebook_of_another_scene_is_refused(room: Path):
    scene = small_room()
    assert isinstance(scene.codebook, Codebook)
    other = room.with_name("other.ply")
    spaces = {name: -table for name, table in scene.codebook.spaces.items()}
    changed = Codebook(*[getattr(scene.codebook, n) for n in ("names", "levels", "parents")],
                       scene.codebook.counts + 1, spaces)  # fmt: skip
    save_scene(type(scene)(scene.gaussians, scene.codes, scene.instances, changed), other)
    sidecar_path(other).replace(sidecar_path(room))
    assert_refused(run("query", room, "table"), 1, "codebook")


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}", b"\x80\x04."])
def test_a_broken_codebook_is_refused(room: Path, content: bytes):
    sidecar_path(room).write_bytes(content)
    assert_refused(run("query", room, "table"), 1, "codebook")


def test_a_file_larger_than_memory_is_refused_not_killed(tmp_path: Path, room: Path):
    content = room.read_bytes()
    head = content[: content.index(b"end_header\n") + len(b"end_header\n")]
    memory = 4 << 30  # more than the process itself needs on any machine
    rows = memory // 64  # a Gaussian with its code takes 76 bytes, so these never fit
    large = tmp_path / "large.ply"
    with large.open("wb") as file:
        file.write(with_count(str(rows))(head))
        file.truncate(file.tell() + rows * (len(content) - len(head)) // 1000)  # takes no disk

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    sidecar_path(room).rename(sidecar_path(large))
    done = process("query", large, "table", preexec_fn=limit)
    assert_refused(done, 4, "out of memory")


# Outputs that cannot be written


def test_a_full_disk(big_room: Path, small_disk: Path):
    out = small_disk / "out.ply"
    done = run("query", big_room, "wall", "--out", out)
    assert_refused(done, 5, "no space left", "nothing was written")
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_keeps_the_old_file(big_room: Path, small_disk: Path):
    out = small_disk / "out.ply"
    out.write_bytes(b"precious")
    assert_refused(run("query", big_room, "wall", "--out", out, "--overwrite"), 5)
    assert out.read_bytes() == b"precious"
    assert list(small_disk.iterdir()) == [out]


def test_a_disk_that_is_full_after_inference(untrained: Path, tmp_path: Path, small_disk: Path):
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1000 << 10))
    photos = save_photos(tmp_path / "photos")
    outcome = run("infer", photos, "--model", untrained, "--out", small_disk / "out.ply")
    assert_refused(outcome, 5, "no space left")
    assert list(small_disk.iterdir()) == [filler]


@pytest.mark.parametrize("out", ["/dev/full", "/proc/out.ply", "missing/out.ply", "in", "a" * 300])
def test_places_where_nothing_can_be_written(room: Path, tmp_path: Path, out: str):
    before = sorted(tmp_path.rglob("*"))
    assert_refused(run("query", room, "table", "--out", tmp_path / out), 5)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_read_only_folder(room: Path, small_disk: Path):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert_refused(run("query", room, "table", "--out", small_disk / "out.ply"), 5)


# Signals


def interrupted(after: float, number: int, *arguments: object) -> tuple[int, float, str]:
    """Run, send a signal after so many seconds; exit code, seconds until the end, stderr."""
    command = [sys.executable, "-m", "ffsplat", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        sent = time.monotonic()
        _, err = process.communicate(timeout=60)
        return process.returncode, time.monotonic() - sent, err.decode()


def test_a_signal_at_any_time_leaves_the_old_or_the_new_file(big_room: Path, tmp_path: Path):
    out = tmp_path / "out.ply"
    arguments = ("query", big_room, "wall", "--out", out, "--overwrite")
    start = time.monotonic()
    assert process(*arguments).code == 0
    duration = time.monotonic() - start
    new = out.read_bytes()
    for moment in range(INTERRUPTS):
        number = (signal.SIGINT, signal.SIGTERM)[moment % 2]
        out.write_bytes(b"old")
        code, wait, err = interrupted(duration * moment / INTERRUPTS, number, *arguments)
        # -number, or an error of its own: Python itself was not up yet.
        unborn = code == 1 and err.startswith(UNBORN)
        assert code in (0, 128 + number, -number) or unborn, err
        assert wait < PROMPT_SECONDS
        assert out.read_bytes() in (b"old", new)
        assert {path.name for path in tmp_path.iterdir()} <= {out.name, sidecar_path(out).name}
        if code == 128 + number:
            assert err == "error: interrupted\n"


@pytest.mark.slow
def test_a_signal_during_inference(untrained: Path, tmp_path: Path):
    photos = save_photos(tmp_path / "photos")
    out = tmp_path / "out.ply"
    arguments = ("infer", photos, "--model", untrained, "--out", out, "--overwrite")
    start = time.monotonic()
    assert process(*arguments).code == 0
    duration = time.monotonic() - start
    new = out.read_bytes()
    for moment in range(4):
        out.write_bytes(b"old")
        after = duration * (moment + 1) / 5
        code, wait, err = interrupted(after, signal.SIGINT, *arguments)
        assert code in (0, 130), err
        assert wait < PROMPT_SECONDS
        assert out.read_bytes() in (b"old", new)
        if code == 130:
            assert err == "error: interrupted\n"


def test_kill_leaves_no_partial_file_at_the_final_name(big_room: Path, tmp_path: Path):
    out = tmp_path / "out.ply"
    arguments = ("query", big_room, "wall", "--out", out)
    for moment in range(4):
        code, _, _ = interrupted(0.15 * (moment + 1), signal.SIGKILL, *arguments, "--overwrite")
        assert code in (0, -signal.SIGKILL)
        if out.exists():
            assert len(load_scene(out)) == 50_000


# Environments


@pytest.mark.parametrize(
    "changes",
    [
        {"PYTHONWARNINGS": "error"},
        {"PYTHONOPTIMIZE": "1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"HOME": "/proc"},
        {"HOME": None, "XDG_CACHE_HOME": None},
        {"TZ": "Antarctica/Troll", "NO_COLOR": "1", "TERM": "dumb"},
    ],
    ids=str,
)
def test_a_query_works_anywhere(room: Path, tmp_path: Path, changes: dict[str, str | None]):
    settings = {**os.environ, **changes}
    environment = {key: value for key, value in settings.items() if value is not None}
    out = tmp_path / "out.ply"
    done = process("query", room, "table", "--out", out, env=environment)
    assert (done.code, done.err) == (0, "")
    assert len(load_scene(out)) == 300


def test_inference_and_drawing_work_nowhere_in_particular(untrained: Path, tmp_path: Path):
    photos = save_photos(tmp_path / "photos")
    odd = {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "1", "LC_ALL": "C", "TERM": "dumb"}
    environment = {k: v for k, v in {**os.environ, **odd}.items() if k not in ("HOME", "USER")}
    scene, image = tmp_path / "out.ply", tmp_path / "out.png"
    made = process("infer", photos, "--model", untrained, "--out", scene, env=environment)
    assert (made.code, made.err) == (0, "")
    drawn = process("render", scene, "--out", image, "--size", "32x24", env=environment)
    assert (drawn.code, drawn.out, drawn.err) == (0, "", f"wrote {image}\n")
