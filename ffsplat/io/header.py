"""The text at the head of a PLY file: parse it without trusting it, and write comments safely.

Source: G. Turk, "The PLY Polygon File Format" (1994); what readers in use accept on top of that.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG

import numpy as np

from ffsplat.errors import OutputError, SceneFileError

SCALARS = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
"""PLY type names and their aliases, as numpy kinds without byte order."""

MAX_HEADER = 1 << 20
MAX_PROPERTIES = 4096
ESCAPED_WORDS = (
    "packed_",
    "chunk",
    "codebook_centers",
    "f_rest_",
    "end_header",
    "element",
    "property",
)
"""Words that some reader takes for structure even inside a comment."""

_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_COUNT = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, eq=False)
class Element:
    """One element: its name, the number of its rows and (name, type word) of each property."""

    name: str
    count: int
    properties: tuple[tuple[str, str], ...]

    @property
    def kinds(self) -> list[str]:
        """The numpy kind of each property, without byte order."""
        return [SCALARS[word] for _, word in self.properties]

    @property
    def stride(self) -> int:
        """Bytes of one row."""
        return sum(int(kind[1]) for kind in self.kinds)


@dataclass(frozen=True, eq=False)
class Header:
    """A parsed header; `size` is its length in bytes, `order` the numpy byte order of the body."""

    lines: tuple[str, ...]
    size: int
    order: str
    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    file_size: int

    @property
    def body_size(self) -> int:
        """Bytes that the header promises after itself."""
        return sum(element.count * element.stride for element in self.elements)

    @property
    def surplus(self) -> int:
        """Bytes that the file has beyond the promised ones; negative where it is truncated."""
        return self.file_size - self.size - self.body_size

    @property
    def vertex(self) -> Element:
        """The element that holds the Gaussians."""
        return next(element for element in self.elements if element.name == "vertex")

    @property
    def vertex_offset(self) -> int:
        """Byte of the file where the first Gaussian starts."""
        index = self.elements.index(self.vertex)
        return self.size + sum(e.count * e.stride for e in self.elements[:index])

    @property
    def notes(self) -> dict[str, str]:
        """Comments of the form `ffsplat.<key> <value>`; values are still escaped."""
        pairs = (line.partition(" ") for line in self.comments if line.startswith("ffsplat."))
        return {unescape(key.removeprefix("ffsplat.")): value for key, _, value in pairs}

    def row_dtype(self) -> np.dtype:
        """Structured dtype of one vertex."""
        names = [name for name, _ in self.vertex.properties]
        formats = [self.order + kind for kind in self.vertex.kinds]
        return np.dtype(list(zip(names, formats, strict=True)))

    def check_size(self, name: str) -> None:
        """Raise SceneFileError unless the file is exactly as long as its header promises."""
        if self.surplus < 0:
            raise SceneFileError(
                f"{name} is truncated: {-self.surplus} of its bytes are missing",
                "copy it anew: it was cut off on its way",
            )
        if self.surplus > 0:
            raise SceneFileError(
                f"{name} has {self.surplus} bytes after its last row",
                "ffsplat check lists every problem of a file",
            )


def open_regular(path: Path) -> BufferedReader:
    """Open an existing regular file for reading; SceneFileError for anything else."""
    if str(path) == "-":
        raise SceneFileError(
            "there is no reading from the standard input", "give the name of a file"
        )
    try:
        if not S_ISREG(path.stat().st_mode):
            raise SceneFileError(f"{path} is not a regular file")
        return path.open("rb")
    except OSError as error:
        hint = "check its name and folder" if isinstance(error, FileNotFoundError) else None
        raise SceneFileError(f"cannot read {path}: {error.strerror}", hint) from error


def read_limited(path: Path, limit: int) -> bytes:
    """A whole regular file of at most `limit` bytes; SceneFileError for anything else."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise SceneFileError(f"{path} has {size} bytes, more than {limit}")
        return file.read(size)


def read_header(file: BufferedReader, name: str) -> Header:
    """Parse the header of an open PLY file, allocating at most 1 MiB whatever it claims."""
    file_size = os.fstat(file.fileno()).st_size
    start = file.read(MAX_HEADER)
    if not start.startswith((b"ply\n", b"ply\r\n")):
        raise SceneFileError(
            f"{name} is not a PLY file", "ffsplat convert --list names all formats by their endings"
        )
    end = re.search(rb"\nend_header\r?\n", start)
    if end is None:
        raise SceneFileError(f"{name} has no end_header in its first {len(start)} bytes")
    lines = tuple(start[: end.end()].decode("latin-1").replace("\r\n", "\n").split("\n")[:-1])
    try:
        order, elements, comments = _parse(lines[1:-1])
    except ValueError as error:
        raise SceneFileError(f"{name} has a bad header: {error}") from error
    return Header(lines, end.end(), order, elements, comments, file_size)


def _parse(lines: tuple[str, ...]) -> tuple[str, tuple[Element, ...], tuple[str, ...]]:
    order, comments = "", []
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for line in lines:
        match line.split():
            case ["format", word, "1.0"] if not order:
                order = _byte_order(word)
            case ["element", name, count]:
                elements.append((name, _count(count), []))
            case ["property", "list", *_]:
                raise ValueError("it has a list property (is it a mesh?)")
            case ["property", word, name] if elements:
                elements[-1][2].append((name, _scalar(word)))
            case ["comment", *_]:
                comments.append(line.partition(" ")[2])
            case ["obj_info", *_] | []:
                continue
            case _:
                raise ValueError(f"line {line[:60]!r}")
    if not order:
        raise ValueError("no format line")
    _check_names(elements)
    built = tuple(Element(name, count, tuple(items)) for name, count, items in elements)
    return order, built, tuple(comments)


def _byte_order(word: str) -> str:
    if word not in _ORDERS:
        raise ValueError(f"format {word[:40]!r} (only binary PLY is read)")
    return _ORDERS[word]


def _count(word: str) -> int:
    if not _COUNT.fullmatch(word):
        raise ValueError(f"element count {word[:40]!r}")
    return int(word)


def _scalar(word: str) -> str:
    if word not in SCALARS:
        raise ValueError(f"property type {word[:40]!r}")
    return word


def _check_names(elements: list[tuple[str, int, list[tuple[str, str]]]]) -> None:
    if [name for name, _, _ in elements].count("vertex") != 1:
        raise ValueError("it needs exactly one element named vertex")
    for name, _, items in elements:
        names = [item for item, _ in items]
        if len(names) > MAX_PROPERTIES:
            raise ValueError(f"element {name[:40]!r} has {len(names)} properties")
        if len(set(names)) != len(names):
            raise ValueError(f"element {name[:40]!r} names a property twice")


def escape(text: str, extra: str = "") -> str:
    """ASCII on one line, as inside a JSON string, without words that readers take for structure.

    Every character of `extra` is escaped as well; `unescape` gives `text` back exactly.
    """
    result = json.dumps(text)[1:-1]
    for word in ESCAPED_WORDS:
        result = result.replace(word, word[:-1] + f"\\u{ord(word[-1]):04x}")
    for character in extra:
        result = result.replace(character, f"\\u{ord(character):04x}")
    return result


def unescape(text: str) -> str:
    """Undo `escape`; text that is no escaped string (another tool's) is returned as it is."""
    try:
        return json.loads(f'"{text}"')
    except ValueError:
        return text


def printable(text: str) -> str:
    """`unescape` for showing: what could steer a terminal becomes U+FFFD."""
    return "".join(c if c.isprintable() else "\ufffd" for c in unescape(text))


def comment_lines(notes: Mapping[str, str]) -> list[str]:
    """One `comment ffsplat.<key> <value>` line a note; OutputError for a key that is no word."""
    for key in notes:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", key):
            raise OutputError(f"provenance key {key!r} is not a plain word")
    return [f"comment ffsplat.{escape(key)} {escape(value)}" for key, value in notes.items()]
