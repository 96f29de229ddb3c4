"""Loops that numba compiles when they are first needed, and that stay compiled on disk."""

import contextlib
import inspect
from pathlib import Path
from typing import Any


def exactly_compiled(function, **options):
    """Compile with numba, releasing the GIL; cached on disk where a cache can be written."""
    from numba import njit

    plain = inspect.unwrap(function)  # type checkers of tests may have wrapped it
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        kernel: Any = njit(cache=True, **options)(plain)
    except RuntimeError:  # no folder to cache in
        return njit(**options)(plain)
    kernel._cache.save_overload = _if_there_is_room(kernel._cache.save_overload)
    kernel._cache._cache_file._source_stamp = _stamp(Path(plain.__code__.co_filename).parent)
    _label(kernel._cache._cache_file)
    return kernel


def _stamp(folder):
    """What tells whether a cache is old: kernels of one file are built into those of others."""
    files = ((file.name, file.stat()) for file in sorted(folder.glob("*.py")))
    return [(name, stat.st_mtime, stat.st_size) for name, stat in files]


def _label(file):
    """Have data say what it is, for numba's index may name code for other arguments, or old code.

    Two processes give one name to what both compile at once, and the index is written before the
    data, so that who is killed in between leaves what stood there.
    """
    save, load = file.save, file.load

    def save_labelled(key, data):
        save(key, (key, file._source_stamp, data))

    def load_own(key):
        found = load(key)
        return found[2] if found and found[:2] == (key, file._source_stamp) else None

    file.save, file.load = save_labelled, load_own


def _if_there_is_room(save):
    """A full disk costs the cache, not the result."""

    def attempt(*arguments):
        with contextlib.suppress(OSError):
            save(*arguments)

    return attempt
