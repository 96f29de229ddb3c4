import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffsplat.errors import OutputError
from ffsplat.io import read_ply
from ffsplat.io.atomic import atomic_output, atomic_outputs, check_output
from tests.io.scenes import random_scene

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator:
    """A function that mounts a tmpfs with given options; skips where that is not allowed."""
    mounted = []

    def make(options: str) -> Path:
        folder = tmp_path / f"mount{len(mounted)}"
        folder.mkdir()
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small disk")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this machine does not let root mount a tmpfs")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def write_half(paths: list[Path], error: type[BaseException], overwrite: bool = False) -> None:
    """Begin to write and be interrupted."""
    with atomic_outputs(paths, overwrite) as files:
        files[0].write(b"half")
        raise error


def write_late(path: Path) -> None:
    """Write while somebody else makes the same file."""
    with atomic_output(path) as file:
        file.write(b"ours")
        path.write_bytes(b"theirs")


def test_complete_file_appears_with_usual_permissions(tmp_path):
    with atomic_output(tmp_path / "a") as file:
        file.write(b"content")
        assert not (tmp_path / "a").exists()
    (tmp_path / "b").write_bytes(b"")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == b"content"
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_interruption_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        write_half([tmp_path / "a", tmp_path / "b"], error)
    assert not list(tmp_path.iterdir())


def test_interruption_keeps_the_old_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_half([tmp_path / "a"], KeyboardInterrupt, overwrite=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_existing_file_needs_overwrite(tmp_path):
    path = tmp_path / "scene.ply"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"scene\.ply already exists") as caught:
        check_output(path)
    assert caught.value.hint == "--overwrite replaces that file only"
    with atomic_output(path, overwrite=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(OutputError, match="already exists"):
        write_late(tmp_path / "a")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"theirs"]


def test_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_output(tmp_path / "link", overwrite=True) as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_several_files_appear_together(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    with atomic_outputs(paths) as files:
        for file, content in zip(files, (b"1", b"2"), strict=True):
            file.write(content)
    assert [path.read_bytes() for path in paths] == [b"1", b"2"]
    paths[0].unlink()
    with pytest.raises(OutputError, match="b already exists"), atomic_outputs(paths):
        pass
    assert not paths[0].exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent/a", "folder .*absent does not exist"),
        (".", "is a folder"),
        ("x" * 300, "too long"),
        ("loop", "not a regular file"),
    ],
)
def test_impossible_paths_are_refused(tmp_path, path, message):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match=message), atomic_output(tmp_path / path) as file:
        file.write(b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["loop"]


def test_device_is_never_replaced():
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OutputError, match="not a regular file"):
        check_output(device, overwrite=True)
    assert device.is_char_device()


def test_full_disk_leaves_nothing_and_says_how_much_was_missing(mount):
    folder = mount("size=1m")
    path = folder / "scene.ply"
    with pytest.raises(OutputError) as caught, atomic_output(path, size=9_000_000) as file:
        file.write(bytes(9_000_000))
    expected = f"no space left on {folder} (scene.ply needs 9 MB, 1 MB free); nothing was written"
    assert str(caught.value) == expected
    assert not list(folder.iterdir())


def test_disk_that_is_full_at_the_last_moment(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space left"), atomic_output(tmp_path / "a") as file:
        file.write(b"x")
    assert not list(tmp_path.iterdir())


def test_read_only_folder(mount):
    folder = mount("ro")
    with pytest.raises(OutputError, match="not writable"):
        check_output(folder / "a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="not writable"):
        check_output(tmp_path / "a")


WRITER = """
import sys
from ffsplat.io import write_ply
from tests.io.scenes import random_scene
scene = random_scene(20_000, sh=4, codes=0)
print("ready", flush=True)
while True:
    write_ply(scene, sys.argv[1], overwrite=True)
"""


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_killed_writer_leaves_a_whole_file(tmp_path, kill):
    path = tmp_path / "scene.ply"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.037)
        process.send_signal(kill)
    assert len(read_ply(path)) == len(random_scene(20_000, sh=4, codes=0))
    if kill == signal.SIGINT:
        assert [p.name for p in tmp_path.iterdir()] == ["scene.ply"]
