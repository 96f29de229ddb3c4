"""What the command says: results on stdout, everything else on stderr, progress on a terminal."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ffsplat.errors import OutputError

FILE = click.Path(path_type=Path)
"""A file as an argument; whether it is there and readable is found out when it is opened."""


class Console:
    """How much to say, and where. Results go to stdout, all the rest to stderr."""

    def __init__(self) -> None:
        self.quiet = False
        self.verbose = 0
        self.debug = False
        self.lines: logging.Formatter | None = None
        """What makes lines for machines of all that is said on stderr; None: it is for people."""
        self._progress = ""

    def result(self, text: str) -> None:
        """Print a line of the result."""
        self.clear()
        _write("stdout", f"{text}\n")

    def json(self, data: object) -> None:
        """Print the result as one JSON document; NaN and infinity are refused."""
        self.result(json.dumps(data, indent=2, allow_nan=False))

    def error(self, message: str, hint: str | None = None) -> None:
        """Say in one line what went wrong, and in another what to do next."""
        self._say(logging.ERROR, message, hint)

    def note(self, text: str) -> None:
        """Say something on stderr that `--quiet` silences."""
        if not self.quiet:
            self._say(logging.INFO, text)

    def warning(self, text: str) -> None:
        """Warn on stderr, which `--quiet` silences."""
        if not self.quiet:
            self._say(logging.WARNING, text)

    def record(self, record: logging.LogRecord) -> None:
        """Say a record of the log."""
        if self.lines is None:
            self.note(f"{record.levelname.lower()}: {record.getMessage()}")
        elif not self.quiet or record.levelno >= logging.ERROR:
            _write("stderr", f"{self.lines.format(record)}\n")

    def _say(self, level: int, text: str, hint: str | None = None) -> None:
        name = logging.getLevelName(level)
        if self.lines is not None:
            facts = {"name": "ffsplat", "levelno": level, "levelname": name, "msg": text}
            self.record(logging.makeLogRecord(facts | ({"hint": hint} if hint else {})))
            return
        self.clear()
        mark = "" if level == logging.INFO else f"{name.lower()}: "
        _write("stderr", f"{mark}{printable(text)}\n")
        if hint:
            _write("stderr", f"hint: {printable(hint)}\n")

    def progress(self, text: str) -> None:
        """Replace the progress line; shown on a terminal only."""
        if not self.quiet and sys.stderr is not None and sys.stderr.isatty():
            text = printable(text)[:78]
            _write("stderr", "\r" + text.ljust(len(self._progress)))
            self._progress = text

    def clear(self) -> None:
        """Wipe the progress line."""
        if self._progress:
            _write("stderr", "\r" + " " * len(self._progress) + "\r")
            self._progress = ""


class LogHandler(logging.Handler):
    """Passes on ffsplat's own log records, and from `-v` on those of libraries too."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Say the record."""
        if record.name.split(".")[0] == "ffsplat" or self.console.verbose:
            self.console.record(record)


@contextmanager
def logging_to(console: Console) -> Iterator[None]:
    """Send log records to the console while the block runs."""
    handler = LogHandler(console)
    root, ours = logging.getLogger(), logging.getLogger("ffsplat")
    levels = root.level, ours.level
    ours.setLevel(logging.WARNING)  # whatever a library has made of the root's
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--quiet`, `-v` and `--debug`, which may stand before or after the command's name."""
    options = [
        ("-q", "--quiet", {"is_flag": True, "help": "Say nothing but results and errors."}),
        ("-v", "--verbose", {"count": True, "help": "Say more; twice for everything."}),
        ("--debug", None, {"is_flag": True, "help": "Show the traceback of an error."}),
    ]
    for short, long, settings in reversed(options):
        names = [name for name in (short, long) if name]
        settings |= {"expose_value": False, "is_eager": True, "show_default": False}
        command = click.option(*names, callback=_store, **settings)(command)
    return command


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if not value:
        return
    setattr(context.find_root().obj, str(parameter.name), value)
    if parameter.name == "verbose":
        logging.getLogger("ffsplat").setLevel(logging.INFO if value == 1 else logging.DEBUG)


def printable(text: str) -> str:
    """The text in one line, with control characters (a file's name may hold some) written out."""
    return "".join(
        c if c.isprintable() else " " if c == "\n" else c.encode("unicode_escape").decode()
        for c in text.strip()
    )


def _write(name: str, text: str) -> None:
    """Write at once. A reader that has left (`| head`) ends the output, not the work."""
    stream = getattr(sys, name)
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        silence(name)
    except OSError as error:
        silence(name)
        raise OutputError(f"cannot write to the {name} stream: {error.strerror}") from error


def silence(name: str) -> None:
    """Send what is still to come on a stream, and what is buffered, to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, getattr(sys, name).fileno())
    os.close(nowhere)
