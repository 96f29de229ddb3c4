"""The parts of a glTF file: JSON, one buffer, and rows of numbers in it, each checked when taken.

Source: Khronos, glTF 2.0 specification, sections 3.6 (buffers and accessors) and 4 (GLB).
"""

import binascii
import json
from base64 import b64decode
from typing import Any, NamedTuple

import numpy as np

from ffsplat.formats.gltf import (
    BINARY_CHUNK,
    CHUNK_HEADER,
    COMPONENTS,
    GLB_HEADER,
    JSON_CHUNK,
    WIDTHS,
)

MAX_JSON = 1 << 26
DATA_URI = "data:application/octet-stream;base64,"


class File(NamedTuple):
    """The JSON part of a glTF, its one buffer, and the name for messages."""

    document: dict[str, Any]
    binary: bytes
    name: str

    def item(self, kind: str, index: object) -> dict[str, Any]:
        """An entry of a list of the document; ValueError if it is not there."""
        entries = self.document.get(kind)
        number = whole(index, kind)
        if not isinstance(entries, list) or number >= len(entries):
            raise ValueError(f"{kind} {number} is not there")
        if not isinstance(entries[number], dict):
            raise ValueError(f"{kind} {number} is no object")
        return entries[number]

    def view(self, index: object) -> tuple[memoryview, int]:
        """The bytes of a buffer view, and the distance of its rows, 0 where it has none."""
        view = self.item("bufferViews", index)
        start = whole(view.get("byteOffset", 0), "byteOffset")
        size = whole(view.get("byteLength"), "byteLength")
        if view.get("buffer") != 0 or start + size > len(self.binary):
            raise ValueError(f"bufferView {index} ends after the buffer")
        stride = whole(view.get("byteStride", 0), "byteStride")
        return memoryview(self.binary)[start : start + size], stride

    def rows(
        self, attributes: dict[str, Any], name: str, width: int, count: int | None = None
    ) -> np.ndarray:
        """The numbers of an attribute, `count` rows of `width`, normalised ones as float32."""
        accessor = self.item("accessors", attributes.get(name))
        kind, shape = accessor.get("componentType"), accessor.get("type")
        if kind not in COMPONENTS or WIDTHS.get(str(shape)) != width or "sparse" in accessor:
            raise ValueError(f"{name} is of a kind that is not read")
        length = whole(accessor.get("count"), f"count of {name}")
        start = whole(accessor.get("byteOffset", 0), "byteOffset")
        if not length or count not in (None, length):
            raise ValueError(f"{name} has {length} rows")
        content, stride = self.view(accessor.get("bufferView"))
        dtype = np.dtype(COMPONENTS[kind])
        row = dtype.itemsize * width
        stride = stride or row
        if stride < row or start + stride * (length - 1) + row > len(content):
            raise ValueError(f"{name} ends after its bufferView")
        table = np.ndarray((length, width), dtype, content, start, (stride, dtype.itemsize))
        if not accessor.get("normalized"):
            return table
        top = np.iinfo(dtype).max if dtype.kind in "iu" else 1
        return np.maximum(table.astype(np.float32) / np.float32(top), -1)


def parse(content: bytes, name: str) -> File:
    """The parts of a `.glb`, or of a `.gltf` with its buffer inside; ValueError and KeyError."""
    if content[:4] != b"glTF":
        document = _object(content)
        uri = str(document["buffers"][0]["uri"])
        if not uri.startswith(DATA_URI):
            raise ValueError("its buffer is another file; a .glb holds all in one")
        try:
            return File(document, b64decode(uri[len(DATA_URI) :], validate=True), name)
        except binascii.Error as error:
            raise ValueError(f"its buffer is not base64: {error}") from error
    if len(content) < GLB_HEADER.size or GLB_HEADER.unpack_from(content)[1:] != (2, len(content)):
        raise ValueError("its version is not 2, or its length is not what it says")
    chunks, place = [], GLB_HEADER.size
    while place < len(content):
        if place + CHUNK_HEADER.size > len(content):
            raise ValueError("a chunk is cut off")
        size, kind = CHUNK_HEADER.unpack_from(content, place)
        place += CHUNK_HEADER.size
        if place + size > len(content):
            raise ValueError("a chunk is cut off")
        chunks.append((kind, content[place : place + size]))
        place += size
    if [kind for kind, _ in chunks[:2]] != [JSON_CHUNK, BINARY_CHUNK]:
        raise ValueError("it has no JSON and binary part")
    if len(chunks[0][1]) > MAX_JSON:
        raise ValueError(f"its JSON has {len(chunks[0][1])} bytes")
    return File(_object(chunks[0][1]), chunks[1][1], name)


def _object(content: bytes) -> dict[str, Any]:
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("its JSON is no object")
    return document


def whole(value: object, what: str) -> int:
    """The value, if it is a whole number that may be a size or a place; else ValueError."""
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ValueError(f"{what} is {str(value)[:20]}")
    return value
