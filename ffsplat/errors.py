"""The error tree. Every mistake a user can make is one of these, with a hint and an exit code.

FFSplatError
├── UsageError        2  an option or argument makes no sense
│   └── UnknownWord   2  a query word that the text space does not know
├── ImageError        1  a photo cannot be read
├── SceneFileError    1  a PLY, codebook or camera file breaks its format
├── CheckpointError   1  weights or their config do not fit
│   ├── WeightsMissing 6 weights are neither here nor to be had
│   │   └── LicenseNotAccepted 6  nobody has accepted their non-commercial licence yet
│   └── WeightsDamaged 6 weights are not what the hub promises
├── StreamError       1  a camera, bag or connection cannot be opened, or breaks off
├── MemoryLimit       4  out of memory after every fall-back
└── OutputError       5  the result cannot be written
"""

import errno


class FFSplatError(Exception):
    """Base of all errors that ffsplat raises on purpose; `hint` says what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class UsageError(FFSplatError):
    """An option or argument makes no sense."""

    exit_code = 2


class UnknownWord(UsageError):
    """A query word that the text space does not know; the hint lists the nearest names."""


class ImageError(FFSplatError):
    """A photo cannot be read, or is refused for its size."""


class SceneFileError(FFSplatError):
    """A PLY, codebook or camera file breaks its format."""


class CheckpointError(FFSplatError):
    """Weights or their config do not fit the architecture."""


class WeightsMissing(CheckpointError):
    """Weights are neither in the package, nor on disk, nor to be had from the hub."""

    exit_code = 6


class LicenseNotAccepted(WeightsMissing):
    """Weights have a non-commercial licence that the user has not accepted yet."""


class WeightsDamaged(CheckpointError):
    """The content of weights is not what the hub promises; nothing was deleted."""

    exit_code = 6


class StreamError(FFSplatError):
    """A source of frames, or a connection, cannot be opened, breaks off or is refused."""


class MemoryLimit(FFSplatError):
    """Out of memory after every fall-back."""

    exit_code = 4


class OutputError(FFSplatError):
    """The result cannot be written; nothing was left half-written."""

    exit_code = 5


_SYSTEM = {
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "a part of that path is a file: check the name",
    errno.EISDIR: "that is a folder: give the name of a file",
    errno.EEXIST: "that is a file: give another name",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EACCES: "have its permissions changed (ls -ld shows them), or give another name",
    errno.EPERM: "have its permissions changed (ls -ld shows them), or give another name",
    errno.EROFS: "that disk is read-only: give a name on another one",
    errno.ENOSPC: "make room, or give a name on another disk",
    errno.EDQUOT: "make room, or give a name on another disk",
}


def system_hint(error: OSError) -> str:
    """What to do about a file or folder that the system refuses."""
    return _SYSTEM.get(error.errno or 0, "look after the disk, or give a name on another one")
