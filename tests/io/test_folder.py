"""Output folders: whole or not at all, and nobody's files are touched."""

import errno

import pytest

from ffsplat.errors import OutputError
from ffsplat.io.folder import atomic_folder, check_folder

NAMES = ("a/one.txt", "two.txt")


def write(folder, text="new"):
    for name in NAMES:
        (folder / name).write_text(text)


def test_a_new_folder_appears_with_all_its_files(tmp_path):
    with atomic_folder(tmp_path / "out", NAMES) as fresh:
        write(fresh)
        assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out/a/one.txt").read_text() == "new"


def test_a_failure_leaves_nothing(tmp_path):
    with (
        pytest.raises(OutputError, match="No such file"),
        atomic_folder(tmp_path / "out", NAMES) as fresh,
    ):
        write(fresh / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_keeps_what_it_holds(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with atomic_folder(out, NAMES) as fresh:
        write(fresh)
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "two.txt").read_text() == "new"
    with pytest.raises(OutputError, match="already exists"), atomic_folder(out, NAMES):
        raise AssertionError
    with atomic_folder(out, NAMES, overwrite=True) as fresh:
        write(fresh, "newer")
    assert (out / "a/one.txt").read_text() == "newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="not a folder"):
        check_folder(tmp_path / "file", NAMES)
    with pytest.raises(OutputError, match="does not exist"):
        check_folder(tmp_path / "missing/out", NAMES)


def test_a_full_disk_says_how_much_was_needed(tmp_path):
    with pytest.raises(OutputError, match=r"out needs 5 MB"):  # noqa: SIM117
        with atomic_folder(tmp_path / "out", NAMES, size=5_000_000):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
