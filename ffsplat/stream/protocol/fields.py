"""JSON from strangers: read within limits, and taken apart field by field, each one checked."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, ProtocolError

MAX_JSON = 1 << 16
"""Bytes of JSON, in UTF-8, in one message."""

MAX_DEPTH = 8
"""Brackets that may be open at a time."""

EXACT = 2**53 - 1
"""The largest integer that every JSON reader keeps (RFC 8259, section 6)."""

Word = TypeVar("Word", bound=str)

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, or what begins as one and never ends: so each character is looked at once."""


def read_object(text: str | bytes) -> dict[str, Any]:
    """The one object that a text holds; ProtocolError (4400, 4413) if it is anything else.

    A name that stands twice, NaN and Infinity are refused, and nesting is measured before the
    parser, which would recurse, sees it.
    """
    if len(text) > MAX_JSON:
        raise ProtocolError(TOO_LARGE, f"JSON of {len(text)} bytes, over {MAX_JSON}")
    try:
        raw = text.encode() if isinstance(text, str) else text
        text = raw.decode()
    except UnicodeError as error:
        raise ProtocolError(MALFORMED, "text that is not UTF-8") from error
    if len(raw) > MAX_JSON:
        raise ProtocolError(TOO_LARGE, f"JSON of {len(raw)} bytes, over {MAX_JSON}")
    if _depth(text) > MAX_DEPTH:
        raise ProtocolError(MALFORMED, f"JSON nested deeper than {MAX_DEPTH}")
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except ValueError as error:
        raise ProtocolError(MALFORMED, f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ProtocolError(MALFORMED, "JSON that is no object")
    return found


class Fields:
    """The fields of one object; each getter takes one out, and `end` refuses what nobody took.

    A getter raises ProtocolError (4400) for a value of another type or out of range, and for a
    missing one unless there is a default.
    """

    def __init__(self, values: Mapping[str, Any], what: str):
        self._values = dict(values)
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def end(self) -> None:
        """Refuse fields that are not known."""
        if self._values:
            self.refuse(sorted(self._values)[0], "is not known")

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise ProtocolError about a field."""
        raise ProtocolError(MALFORMED, f"{self._what}: {name[:40]!r} {why}")

    def text(self, name: str, longest: int, default: str | None = None) -> str:
        """A string of at most `longest` characters that can be written as UTF-8."""
        value = self._take(name, default)
        if not isinstance(value, str) or len(value) > longest:
            self.refuse(name, f"is no text of at most {longest} characters")
        try:
            value.encode()
        except UnicodeError:
            self.refuse(name, "holds half a character")
        return value

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number in low..high, written without a point."""
        value = self._take(name, default)
        if type(value) is not int or not low <= value <= high:
            self.refuse(name, f"is no integer in {low}..{high}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._take(name, default)
        if not _finite(value):
            self.refuse(name, "is no finite number")
        return float(value)

    def positive(self, name: str) -> float:
        """A finite number above 0."""
        value = self.number(name)
        if value <= 0:
            self.refuse(name, "is not positive")
        return value

    def truth(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            self.refuse(name, "is neither true nor false")
        return value

    def choice(self, name: str, known: Sequence[Word], default: Word | None = None) -> Word:
        """One of the known words."""
        value = self._take(name, default)
        if not isinstance(value, str) or value not in known:
            self.refuse(name, f"is none of {', '.join(known)}")
        return known[known.index(value)]

    def choices(self, name: str, known: Sequence[Word]) -> tuple[Word, ...]:
        """A list of different known words; all of them where it is missing."""
        value = self._take(name, list(known))
        good = isinstance(value, list) and len(value) <= len(known)
        if not good or not all(isinstance(one, str) and one in known for one in value):
            self.refuse(name, f"is no list of {', '.join(known)}")
        return tuple(word for word in known if word in value)

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """A list of `count` finite numbers."""
        value = self._take(name, None)
        if not isinstance(value, list) or len(value) != count or not all(map(_finite, value)):
            self.refuse(name, f"is no list of {count} finite numbers")
        return tuple(map(float, value))

    def integers(self, name: str, most: int) -> tuple[int, ...]:
        """A list of at most `most` whole numbers that are exact and not negative."""
        value = self._take(name, None)
        good = isinstance(value, list) and len(value) <= most
        if not good or not all(type(one) is int and 0 <= one <= EXACT for one in value):
            self.refuse(name, f"is no list of at most {most} counts")
        return tuple(value)

    def object(self, name: str) -> dict[str, Any]:
        """An object."""
        value = self._take(name, None)
        if not isinstance(value, dict):
            self.refuse(name, "is no object")
        return value

    def objects(self, name: str, most: int) -> list[dict[str, Any]]:
        """A list of at most `most` objects."""
        value = self._take(name, None)
        good = isinstance(value, list) and len(value) <= most
        if not good or not all(isinstance(one, dict) for one in value):
            self.refuse(name, f"is no list of at most {most} objects")
        return value

    def _take(self, name: str, default: Any) -> Any:
        if name not in self._values and default is None:
            self.refuse(name, "is missing")
        return self._values.pop(name, default)


def _finite(value: Any) -> bool:
    """Whether a value is a number that a double can hold."""
    if type(value) is int:
        return abs(value) < 2**1023
    return isinstance(value, float) and math.isfinite(value)


def _depth(text: str) -> int:
    """How many brackets are open at most, those inside of strings left out."""
    depth = deepest = 0
    for bracket in re.findall(r"[][{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
