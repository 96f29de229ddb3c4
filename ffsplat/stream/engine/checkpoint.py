"""When the state of a stream is saved, under which names, and how the newest good one is found."""

import errno
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ffsplat.errors import FFSplatError, OutputError, SceneFileError, system_hint

log = logging.getLogger(__name__)

Restored = TypeVar("Restored")

KEPT = 2
"""Checkpoints in a folder: the newest, and one before it in case a disk damaged the newest."""

PATIENCE_S = (1.0, 60.0)
"""Seconds until a failed save is tried again: at first, and at most; doubled each time."""

_PREFIX = "map-"
_NAME = re.compile(r"map-(\d{8})\.safetensors")
_TEMPORARY = ".map-*.tmp"  # what a killed process left of `atomic_output`


class Checkpoints:
    """Saves to one folder after every so many keyframes, each time under a new name.

    One process writes to a folder at a time. Nothing in it is touched but files with names of this
    class. `clock` gives seconds.
    """

    def __init__(self, folder: Path, every: int, clock: Callable[[], float] = time.monotonic):
        self.folder = folder
        self.every = every
        self.failures = 0
        self._clock = clock
        self._saved_at = clock()
        self._frames = self._keyframes = 0  # since the last save
        self._retry_at = float("-inf")
        self._patience = PATIENCE_S[0]

    def prepare(self) -> None:
        """Make the folder (not those above it), and sweep up what a killed process left half-done.

        Raises OutputError if that cannot be.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            for path in self.folder.glob(_TEMPORARY):
                path.unlink(missing_ok=True)
            if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise _refused(self.folder, error) from error

    def add(self, is_keyframe: bool) -> None:
        """There is one more frame that no checkpoint holds."""
        self._frames += 1
        self._keyframes += is_keyframe

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self._keyframes >= self.every and self._clock() >= self._retry_at

    @property
    def age_s(self) -> float:
        """Seconds since the last save, or since the start."""
        return self._clock() - self._saved_at

    @property
    def behind(self) -> bool:
        """Whether the newest checkpoint lacks a frame."""
        return self._frames > 0

    def save(self, save: Callable[[Path], Path]) -> bool:
        """Call `save` with a new name, then remove all but KEPT; False and a log line if it fails.

        `save` writes atomically. After a failure it takes a while until the next try is `due`.
        """
        try:
            paths = _found(self.folder)
            number = 1 + max((int(path.stem.removeprefix(_PREFIX)) for path in paths), default=0)
            save(self.folder / f"{_PREFIX}{number:08d}.safetensors")
            for path in paths[KEPT - 1 :]:
                path.unlink(missing_ok=True)
        except Exception as error:  # noqa: BLE001 - the stream goes on without a checkpoint
            self.failures += 1
            self._retry_at = self._clock() + self._patience
            self._patience = min(2 * self._patience, PATIENCE_S[1])
            log.error("checkpoint failed: %s", error, extra={"failures": self.failures})
            return False
        self._frames = self._keyframes = 0
        self._retry_at = float("-inf")
        self._patience = PATIENCE_S[0]
        self._saved_at = self._clock()
        return True


def resume(folder: Path, load: Callable[[Path], Restored]) -> Restored | None:
    """What `load` makes of the newest checkpoint that it can read, None if there is none at all.

    A damaged one is passed over with a warning. Raises SceneFileError if all are damaged:
    whoever started anew would soon remove them. Raises OutputError for a folder that may not be
    looked into.
    """
    reasons = []
    try:
        paths = _found(folder)
    except OSError as error:
        raise _refused(folder, error) from error
    for path in paths:
        try:
            return load(path)
        except (FFSplatError, OSError, ValueError, KeyError) as error:
            log.warning("checkpoint passed over: %s: %s", path, error)
            reasons.append(str(error))
    if reasons:
        why = f"no checkpoint in {folder} can be used: {reasons[0]}"
        raise SceneFileError(why, "move the folder away to start anew")
    return None


def _refused(folder: Path, error: OSError) -> OutputError:
    """What to say of a folder that cannot be used."""
    return OutputError(f"no checkpoints in {folder}: {error.strerror}", system_hint(error))


def _found(folder: Path) -> list[Path]:
    """Checkpoints of a folder, the newest first."""
    paths = [path for path in folder.glob("map-*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(paths, reverse=True)
