"""Named arrays as bytes: the safetensors format, written the same way always and read strictly.

The length of a JSON header (uint64), the header, which gives type, shape and place of each array,
and the arrays. Source: https://huggingface.co/docs/safetensors, section "Format"; narrower here:
no metadata, at most two axes, and the arrays follow each other in the order of the header.
"""

import json
import math
from collections.abc import Mapping
from struct import Struct
from typing import Any

import numpy as np

from ffsplat.stream.protocol.errors import MALFORMED, ProtocolError
from ffsplat.stream.protocol.fields import Fields, read_object

DTYPES = {
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}

MAX_ENTRIES = 64
_LENGTH = Struct("<Q")
_ALIGNED = 8
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_tensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a document, arrays in falling width of their type, else in the given order.

    So each begins at a multiple of its width, counted from the first byte of the document.
    """
    order = sorted(tensors, key=lambda name: -tensors[name].itemsize)
    header, chunks, end = {}, [], 0
    for name in order:
        array = tensors[name]
        dtype = _NAMES[array.dtype.newbyteorder("<") if array.itemsize > 1 else array.dtype]
        chunks.append(np.ascontiguousarray(array, DTYPES[dtype]).tobytes())
        start, end = end, end + len(chunks[-1])
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return b"".join([_LENGTH.pack(len(text)), text, *chunks])


def read_tensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a document, read-only views of its bytes.

    Raises ProtocolError (4400) unless the arrays fill the document without a gap or an overlap, and
    (4413) for a header over 64 KiB.
    """
    if len(data) < _LENGTH.size:
        raise ProtocolError(MALFORMED, "a document without a header")
    (length,) = _LENGTH.unpack_from(data)
    if length > len(data) - _LENGTH.size:
        raise ProtocolError(MALFORMED, "a document that ends within its header")
    at = _LENGTH.size + length
    header = read_object(data[_LENGTH.size : at])
    if len(header) > MAX_ENTRIES:
        raise ProtocolError(MALFORMED, f"{len(header)} arrays in a document, over {MAX_ENTRIES}")
    tensors = {}
    for name, entry in header.items():
        dtype, shape, start = _entry(name, entry)
        size = math.prod(shape) * dtype.itemsize
        if start != at - _LENGTH.size - length or size > len(data) - at:
            raise ProtocolError(MALFORMED, f"the array {name[:40]!r} is not where it should be")
        tensors[name] = np.frombuffer(data, dtype, math.prod(shape), at).reshape(shape)
        at += size
    if at != len(data):
        raise ProtocolError(MALFORMED, f"{len(data) - at} bytes follow the last array")
    return tensors


def _entry(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and start of an array, by its entry in the header."""
    values = Fields(entry if isinstance(entry, dict) else {}, name[:40])
    dtype = DTYPES[values.choice("dtype", tuple(DTYPES))]
    shape = values.integers("shape", 2)
    offsets = values.integers("data_offsets", 2)
    values.end()
    if not shape or len(offsets) != 2:
        values.refuse("shape", "is none of an array with one or two axes")
    if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        values.refuse("data_offsets", "does not fit the shape")
    return dtype, shape, offsets[0]
