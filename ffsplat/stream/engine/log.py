"""Logs for machines: one JSON object a line; and a traceback once, not thirty times a second."""

import json
import logging
import math
import threading
import traceback
from datetime import UTC, datetime

MAX_TEXT = 8192
"""Characters of a text in a log line: what a stranger sent may stand in it."""

MAX_KINDS = 64
"""Kinds of error that are told apart."""

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Writes time (UTC, RFC 3339), level, logger, message, the fields of `extra`, and the error.

    A line is ASCII and never holds a line break, whatever is logged. Numbers that JSON has not
    (RFC 8259, section 6: NaN, infinity) become null; objects it has not become their text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, without the line break."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps({name: _plain(value) for name, value in fields.items()})


def _plain(value: object, depth: int = 4) -> object:
    """What JSON can say of a value."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict) and depth:
        return {str(name)[:MAX_TEXT]: _plain(item, depth - 1) for name, item in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_plain(item, depth - 1) for item in value]
    text = str(value)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


class ErrorLog:
    """Logs errors of which thirty a second may come: with a traceback once for each kind.

    A kind is the class of an error and the place that raised it. After MAX_KINDS of them, the
    oldest is forgotten.
    """

    def __init__(self, log: logging.Logger):
        self._log = log
        self._kinds: dict[tuple[str, str], None] = {}  # in the order of their coming
        self._lock = threading.Lock()

    def __call__(self, error: BaseException, what: str, **extra: object) -> None:
        """Log an error, and in `what` a few words on what failed."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        kind = (type(error).__name__, place)
        with self._lock:
            if kind in self._kinds:
                return
            if len(self._kinds) >= MAX_KINDS:
                del self._kinds[next(iter(self._kinds))]
            self._kinds[kind] = None
        text = "%s: %s: %s (further errors of this kind are counted, not logged)"
        self._log.error(text, what, kind[0], error, exc_info=error, extra=extra)
