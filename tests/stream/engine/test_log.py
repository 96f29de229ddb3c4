"""Log lines that machines read, and errors that are told once."""

import json
import logging

import pytest

from ffsplat.stream.engine.log import MAX_KINDS, MAX_TEXT, ErrorLog, JsonFormatter


def line(message="hello", error=None, **extra) -> str:
    record = logging.makeLogRecord(
        {"name": "ffsplat.stream", "levelno": logging.WARNING, "levelname": "WARNING",
         "msg": message, "created": 1.5, "exc_info": error, **extra}
    )  # fmt: skip
    return JsonFormatter().format(record)


def test_a_line_has_time_level_logger_message_and_fields():
    assert json.loads(line("frame %s", args=(7,), frame=7)) == {
        "time": "1970-01-01T00:00:01.500+00:00",
        "level": "warning",
        "logger": "ffsplat.stream",
        "message": "frame 7",
        "frame": 7,
    }


@pytest.mark.parametrize("text", ["a\nb", "\r\n{}", "\u2028", 'say "x"', "\x00\x1b[2J", "\udcff"])
def test_nobody_can_forge_a_line(text):
    written = line("%s", args=(text,), name_of_client=text)
    assert written.isascii()
    assert len(written.splitlines()) == 1
    assert json.loads(written)["message"] == text


def test_what_json_has_not_becomes_null_or_text():
    read = json.loads(
        line(a=float("nan"), b=[float("inf"), {1}], c={2: None}, d=object),
        parse_constant=pytest.fail,
    )
    assert read["a"] is None
    assert read["b"] == [None, "{1}"]
    assert read["c"] == {"2": None}
    assert read["d"] == "<class 'object'>"


def test_values_within_themselves_and_long_texts_come_to_an_end():
    circle: list = []
    circle.append(circle)
    read = json.loads(line(circle=circle, long="x" * 100_000))
    assert len(read["long"]) == MAX_TEXT + 3
    assert len(line(circle=circle)) < 1000


def test_an_error_stands_in_the_line_with_its_traceback():
    try:
        raise ValueError("odd")
    except ValueError as error:
        read = json.loads(line(error=(type(error), error, error.__traceback__)))
    assert read["error"].startswith("Traceback")
    assert read["error"].endswith("ValueError: odd")


def caught(kind: type[Exception], text: str = "") -> Exception:
    with pytest.raises(kind) as caught:
        raise kind(text)
    return caught.value


def test_errors_of_one_kind_are_logged_once(caplog):
    report = ErrorLog(logging.getLogger("test"))
    for text in "abc":
        report(caught(ValueError, text), "it failed", frame=3)
    report(caught(KeyError), "it failed")
    assert [record.exc_info[0] for record in caplog.records] == [ValueError, KeyError]
    assert caplog.records[0].frame == 3
    assert "it failed" in caplog.records[0].getMessage()


def test_the_kinds_that_are_remembered_are_bounded(caplog):
    report = ErrorLog(logging.getLogger("test"))
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(MAX_KINDS + 10)]
    for kind in kinds:
        report(caught(kind), "it failed")
    assert len(report._kinds) == MAX_KINDS
    assert len(caplog.records) == len(kinds)
