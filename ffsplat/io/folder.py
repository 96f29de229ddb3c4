"""Outputs of many files: a folder that appears whole, or new files in a folder that stays."""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ffsplat.errors import OutputError
from ffsplat.io.atomic import check_output, output_error


def check_folder(path: str | Path, names: Sequence[str], overwrite: bool = False) -> None:
    """Refuse an output folder that cannot be written, before anything is computed.

    `names` are the files to be written in it, with "/" between folders. Raises OutputError: the
    folder above is missing, `path` is a file, or one of the files exists and `overwrite` is False.
    """
    path = Path(path)
    if not path.is_dir():
        if os.path.lexists(path):
            raise OutputError(f"{path} is not a folder", "give the name of a new folder")
        check_output(path)
        return
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"folder {path} is not writable")
    for name in names:
        if os.path.lexists(path / name):
            check_output(path / name, overwrite)


@contextmanager
def atomic_folder(
    path: str | Path, names: Sequence[str], overwrite: bool = False, size: int | None = None
) -> Iterator[Path]:
    """A fresh folder to write the files `names` in, which become those of `path` when it ends.

    A `path` that does not exist appears at once, with all its files. One that exists keeps what
    else it holds; the files move in the given order, so the one that refers to others stands last.
    If the block raises, nothing is left. `size` in bytes, where known, is told when the disk is
    full. Raises OutputError for what `check_folder` refuses, and when the system cannot write.
    """
    path = Path(path)
    check_folder(path, names, overwrite)
    target = Path(os.path.realpath(path))
    fresh = target.with_name(f".{target.name[:64]}.{secrets.token_hex(4)}.tmp")
    try:
        fresh.mkdir()
        for name in names:
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        for name in names:
            _sync(fresh / name)
        check_folder(path, names, overwrite)
        _move(fresh, target, names)
    except OSError as error:
        raise output_error(error, path, size) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # made here, under a name that nobody else has


def _sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _move(fresh: Path, target: Path, names: Sequence[str]) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).replace(target / name)
