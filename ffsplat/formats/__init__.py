"""Scenes in other people's files: one table of formats, one module each, all with limits."""

from ffsplat.formats.choose import (
    format_named,
    format_to_read,
    format_to_write,
    is_codebook,
    lost,
    output_files,
    read_scene,
    write_scene,
)
from ffsplat.formats.format import TRAITS, Format, Option
from ffsplat.formats.table import FORMATS

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
    "write_scene",
]
