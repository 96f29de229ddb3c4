"""The one place where an exception becomes a message, a hint and an exit code.

0 done · 1 failed · 2 usage · 3 done, but some inputs were skipped · 4 out of memory ·
5 output cannot be written · 6 no weights · 130 Ctrl-C · 143 terminated
"""

import errno
from dataclasses import dataclass

import click

from ffsplat.errors import (
    CheckpointError,
    FFSplatError,
    ImageError,
    MemoryLimit,
    OutputError,
    SceneFileError,
    StreamError,
    UsageError,
    system_hint,
)

FAILED = 1
SKIPPED = 3

LESS = "give fewer photos (--max-views), a smaller --resolution or a smaller scene"

HINTS: dict[type, str] = {
    UsageError: "--help tells what fits",
    ImageError: "open it with another program, and save it as JPEG or PNG",
    SceneFileError: "have that file written anew, or give another one",
    CheckpointError: "`ffsplat models list` names models that can be loaded",
    StreamError: "`ffsplat stream --help` names what can be read",
    MemoryLimit: LESS,
    OutputError: "give another place to write to, with room and the right to",
    FFSplatError: "--debug shows where it comes from",
}
"""What to do next where who raises an error of a class knows nothing better."""

_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "out of memory")


@dataclass(frozen=True)
class Failure:
    """What the user is told, and the exit code."""

    message: str
    hint: str
    exit_code: int


def failure_of(error: Exception) -> Failure:
    """Say what an exception means to the user."""
    if isinstance(error, FFSplatError):
        hint = error.hint or next(HINTS[kind] for kind in type(error).__mro__ if kind in HINTS)
        return Failure(str(error), hint, error.exit_code)
    if isinstance(error, click.ClickException):
        return _usage(error)
    if is_out_of_memory(error):
        return Failure(
            f"out of memory: {error}".removesuffix(": "),
            LESS,
            MemoryLimit.exit_code,
        )
    if isinstance(error, OSError):
        return _system(error)
    return Failure(
        f"internal: {type(error).__name__}: {error}",
        "this is a fault of ffsplat; run it again with --debug and report what it prints",
        FAILED,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, numpy, torch on the CPU or a GPU ran out of memory (torch not imported)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def _usage(error: click.ClickException) -> Failure:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "ffsplat"
    message = error.format_message().removesuffix(".")
    return Failure(message[:1].lower() + message[1:], f"see: {command} --help", error.exit_code)


def _system(error: OSError) -> Failure:
    where = f": {error.filename}" if error.filename else ""
    return Failure(f"{error.strerror or error}{where}", system_hint(error), OutputError.exit_code)
