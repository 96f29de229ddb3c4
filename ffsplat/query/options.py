"""Options of a strategy or a grouping, from values or text: which exist, what each may be."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ffsplat.errors import UsageError

_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def check_positive(name: str, value: float) -> None:
    """Refuse a value of an option that is not a positive, finite number, by a UsageError."""
    if not 0 < value < math.inf:
        raise UsageError(f"the {name} is {value}, not a positive number")


def make_options(kind: type, owner: str, given: Mapping[str, Any]) -> Any:
    """The options with these values, all others as usual; `owner` is whose, "strategy growing".

    Raises UsageError for a name that does not exist, a choice that is none, and an option that has
    to be given and is not.
    """
    _refuse_unknown(kind, owner, given)
    for field in fields(kind):
        if (
            field.default is MISSING
            and field.default_factory is MISSING
            and field.name not in given
        ):
            raise UsageError(f"{owner} needs the option {field.name}")
    hints = get_type_hints(kind)
    for name, value in given.items():
        choices = _choices(hints[name])
        if choices and value not in choices:
            raise UsageError(
                f"option {name} of {owner} is {value!r}", f"it may be {', '.join(choices)}"
            )
    return kind(**given)


def read_options(kind: type, owner: str, pairs: Iterable[str]) -> dict[str, Any]:
    """Values of "name=value" texts: words, numbers, yes or no, lists with commas.

    Raises UsageError for a text of another form, a name that does not exist or is given twice, and
    a value that its type does not allow.
    """
    found: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{pair!r} is no option", "give such as --option weight=0.5")
        name = name.strip().replace("-", "_")
        _refuse_unknown(kind, owner, [name])
        if name in found:
            raise UsageError(f"option {name} is given twice")
        try:
            found[name] = _value(hints[name], text.strip())
        except ValueError as error:
            raise UsageError(f"option {name} of {owner} is {text!r}, {error}") from error
    return found


def describe(kind: type) -> str:
    """The options that `read_options` takes, the usual value first: "scale=1.0 rule=best|share"."""
    hints = get_type_hints(kind)
    return " ".join(
        f"{field.name}={_usual(field.default, _choices(hints[field.name]))}"
        for field in fields(kind)
        if _readable(hints[field.name])
    )


def _refuse_unknown(kind: type, owner: str, names: Iterable[str]) -> None:
    known = [field.name for field in fields(kind)]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"{owner} has no option {', '.join(map(repr, unknown))}",
            f"it has {', '.join(known)}" if known else "it has none",
        )


def _choices(hint: Any) -> tuple[str, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


def _value(hint: Any, text: str) -> Any:
    """The text as a value of this type; ValueError says what it should have been."""
    hint = _given(hint)
    if choices := _choices(hint):
        if text not in choices:
            raise ValueError(f"not one of {', '.join(choices)}")
        return text
    if hint is bool:
        if text.lower() not in _TRUTHS:
            raise ValueError("not yes or no")
        return _TRUTHS[text.lower()]
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise ValueError(f"not {'a whole number' if hint is int else 'a number'}") from None
    if hint is str:
        return text
    if hint == tuple[str, ...]:
        return tuple(texts_of(text))
    raise ValueError("which cannot be given in words")


def _given(hint: Any) -> Any:
    """The type of an option that is given, where it may also be None."""
    if get_origin(hint) in (Union, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def _readable(hint: Any) -> bool:
    return _given(hint) in (str, int, float, bool, tuple[str, ...]) or bool(_choices(hint))


def _usual(default: Any, choices: tuple[str, ...]) -> str:
    if choices:
        return "|".join([default, *(choice for choice in choices if choice != default)])
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ",".join(default)
    return "" if default is None or default is MISSING else str(default)


def texts_of(texts: str) -> list[str]:
    """Texts with semicolons between them; with commas, where there is no semicolon."""
    separator = ";" if ";" in texts else ","
    return [text.strip() for text in texts.split(separator) if text.strip()]
