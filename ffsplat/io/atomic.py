"""Outputs that appear whole or not at all: temporary file, fsync, rename."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ffsplat.errors import OutputError, system_hint


def check_output(path: str | Path, overwrite: bool = False) -> None:
    """Refuse an output path that cannot be written, before anything is computed.

    Raises OutputError: the folder is missing or read-only, the path is a folder or a device, or
    the file exists and `overwrite` is False.
    """
    path = Path(path)
    try:
        _check(path, _resolve(path), overwrite)
    except OSError as error:
        raise output_error(error, path, None) from error


def _check(path: Path, target: Path, overwrite: bool) -> None:
    if str(path) == "-":
        raise OutputError("there is no writing to the standard output", "give the name of a file")
    if target.is_dir():
        raise OutputError(f"{path} is a folder", "give the name of a file")
    if not target.parent.is_dir():
        raise OutputError(f"folder {path.parent} does not exist", f"mkdir -p {path.parent}")
    if os.path.lexists(target) and not target.is_file():  # a device, or links in a circle
        raise OutputError(f"{path} is not a regular file", "give the name of a new file")
    if target.exists() and not overwrite:
        raise OutputError(f"{path} already exists", "--overwrite replaces that file only")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def atomic_output(
    path: str | Path, overwrite: bool = False, size: int | None = None
) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends, or leaves nothing if it raises.

    `size` in bytes, where known, is told to the user when the disk is full. Raises OutputError for
    what `check_output` refuses, a full disk and any other failure of the system to write.
    """
    with atomic_outputs([path], overwrite, size) as (file,):
        yield file


@contextmanager
def atomic_outputs(
    paths: Sequence[str | Path], overwrite: bool = False, size: int | None = None
) -> Iterator[list[BinaryIO]]:
    """Several files that belong together: all are complete on disk before the first is renamed.

    They are renamed in the given order, so the file that refers to the others stands last.
    """
    for path in paths:
        check_output(path, overwrite)
    targets = [_resolve(Path(path)) for path in paths]
    temporaries = [_temporary(target) for target in targets]
    files: list[BinaryIO] = []
    try:
        for temporary in temporaries:
            files.append(temporary.open("xb"))
        yield files
        for file in files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        for path in paths:
            check_output(path, overwrite)
        for temporary, target in zip(temporaries, targets, strict=True):
            temporary.replace(target)
    except OSError as error:
        _discard(files, temporaries)
        raise output_error(error, Path(paths[-1]), size) from error
    finally:
        _discard(files, temporaries)


def _resolve(path: Path) -> Path:
    """The file that a link points to: a link stays a link when its target is replaced."""
    return Path(os.path.realpath(path))


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name[:64]}.{secrets.token_hex(4)}.tmp")


def _discard(files: list[BinaryIO], temporaries: list[Path]) -> None:
    for file in files:
        try:
            file.close()
        except OSError:
            continue  # closing flushes; on a full disk it fails again, and the file goes anyway
    for temporary in temporaries:
        temporary.unlink(missing_ok=True)


def output_error(error: OSError, path: Path, size: int | None) -> OutputError:
    """What went wrong while `path` was written, in words; `size` in bytes, where it is known."""
    folder = path.parent.absolute()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB free"
        detail = f"{path.name}: {free}" if size is None else _needs(path, size, free)
        what = f"no space left on {folder} ({detail}); nothing was written"
        return OutputError(what, system_hint(error))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"folder {folder} is not writable", system_hint(error))
    if error.errno == errno.ENAMETOOLONG:
        return OutputError(f"the name of {path.name[:40]}... is too long", system_hint(error))
    return OutputError(f"cannot write {path}: {error.strerror or error}", system_hint(error))


def _needs(path: Path, size: int, free: str) -> str:
    return f"{path.name} needs {size / 1e6:.0f} MB, {free}"
