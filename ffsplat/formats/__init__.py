"""Scenes in other people's files: one table of formats, one module each, all with limits.

The table itself is light, for commands that only list it; what reads and writes is not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ffsplat.formats.format import TRAITS, Format, Option
from ffsplat.formats.table import FORMATS

if TYPE_CHECKING:
    from ffsplat.formats.choose import (
        format_named,
        format_to_read,
        format_to_write,
        is_codebook,
        lost,
        output_files,
        read_scene,
        scene_files,
        write_scene,
    )

__all__ = [
    "FORMATS",
    "TRAITS",
    "Format",
    "Option",
    "format_named",
    "format_to_read",
    "format_to_write",
    "is_codebook",
    "lost",
    "output_files",
    "read_scene",
    "scene_files",
    "write_scene",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("ffsplat.formats.choose"), name)
    globals()[name] = value
    return value
