"""What is said where: progress only on a terminal, JSON that every parser reads."""

import io
import json
import logging
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest

from ffsplat.cli.console import Console, logging_to, printable
from ffsplat.stream.engine.log import JsonFormatter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(text: str) -> list[str]:
    """The lines that a terminal shows: a carriage return goes back and overwrites."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def said(*acts: Callable[[Console], object], quiet: bool = False, stream=Terminal) -> str:
    """What a console writes while it does these things, to both streams together."""
    console, written = Console(), stream()
    console.quiet = quiet
    with redirect_stdout(written), redirect_stderr(written):
        for act in acts:
            act(console)
    return written.getvalue()


def reading(console: Console) -> None:
    console.progress("reading a long scene")


def drawing(console: Console) -> None:
    console.progress("drawing")


def test_progress_replaces_itself_on_a_terminal():
    assert screen(said(reading)) == ["reading a long scene"]
    assert screen(said(reading, drawing)) == ["drawing"]


@pytest.mark.parametrize(
    ("say", "line"), [("result", "told"), ("note", "told"), ("error", "error: told")]
)
def test_progress_makes_room_for_lines(say, line):
    assert screen(said(reading, lambda console: getattr(console, say)("told"))) == [line, ""]


def test_progress_is_not_for_files_nor_for_the_quiet():
    assert said(reading, drawing, quiet=True) == ""
    assert said(reading, drawing, stream=io.StringIO) == ""


def test_json_is_one_document_without_nan():
    text = said(lambda console: console.json({"name": "caf\u00e9 \udcff"}))
    assert text == '{\n  "name": "caf\\u00e9 \\udcff"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        said(lambda console: console.json(float("nan")))


def test_what_a_library_makes_of_the_root_logger_is_not_said(monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)

    def log(console: Console) -> None:
        with logging_to(console):
            logging.getLogger("ffsplat.here").info("a detail")
            logging.getLogger("ffsplat.here").warning("a warning")

    assert said(log) == "warning: a warning\n"


def test_machines_read_one_object_a_line():
    def log(console: Console) -> None:
        console.lines = JsonFormatter()
        console.warning("two\nlines")
        console.error("no", "try")
        console.record(logging.makeLogRecord({"levelname": "INFO", "msg": "came", "peer": "::1"}))

    lines = [json.loads(line) for line in said(log).splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("warning", "two\nlines"), ("error", "no"), ("info", "came"),
    ]  # fmt: skip
    assert (lines[1]["hint"], lines[2]["peer"]) == ("try", "::1")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\udcff", "\\udcff"),
        ("caf\u00e9 \u6c34", "caf\u00e9 \u6c34"),
        ("\u202ereversed", "\\u202ereversed"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown
