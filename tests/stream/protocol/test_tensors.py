import json
from contextlib import suppress
from struct import pack

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, ProtocolError
from ffsplat.stream.protocol.tensors import DTYPES, read_tensors, write_tensors

ARRAYS = {f"a.{name}": np.arange(5).astype(dtype) for name, dtype in DTYPES.items()} | {
    "empty": np.zeros((0, 3), np.float16),
    "table": np.arange(6, dtype=np.float32).reshape(2, 3),
}


def document(header: dict | str, body: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return pack("<Q", len(text)) + text + body


def entry(dtype="U8", shape=(4,), offsets=(0, 4), **more) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def same(found, expected) -> bool:
    return set(found) == set(expected) and all(
        found[name].dtype == array.dtype and np.array_equal(found[name], array)
        for name, array in expected.items()
    )


def test_the_library_reads_what_is_written():
    assert same(safetensors.numpy.load(write_tensors(ARRAYS)), ARRAYS)


def test_what_is_written_comes_back():
    assert same(read_tensors(write_tensors(ARRAYS)), ARRAYS)


def test_what_the_library_writes_is_read():
    assert same(read_tensors(safetensors.numpy.save(ARRAYS)), ARRAYS)


def test_each_array_stands_at_a_multiple_of_its_width():
    data = write_tensors(ARRAYS)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for name, found in header.items():
        assert (8 + length + found["data_offsets"][0]) % ARRAYS[name].itemsize == 0


def test_columns_and_foreign_byte_orders_are_written_as_they_read():
    array = np.arange(6, dtype=">i4").reshape(3, 2)[:, ::-1]
    assert np.array_equal(read_tensors(write_tensors({"a": array}))["a"], array)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(7),
        pack("<Q", 2**63) + b"{}",
        document("[]", b""),
        document("{}", b"x"),
        document({"a": entry()}, b"123"),
        document({"a": entry()}, b"12345"),
        document({"a": entry(offsets=(1, 5))}, b"12345"),
        document({"a": entry(offsets=(4, 0))}, b"1234"),
        document({"a": entry(shape=(5,))}, b"1234"),
        document({"a": entry(shape=())}, b"1234"),
        document({"a": entry(shape=(1, 2, 2))}, b"1234"),
        document({"a": entry(shape=(2**40, 2**40), offsets=(0, 2**80))}, b""),
        document({"a": entry(shape=(2**53, 0), offsets=(0, 0)), "b": entry()}, b"123"),
        document({"a": entry(shape=(-4,))}, b"1234"),
        document({"a": entry(shape=(4.0,))}, b"1234"),
        document({"a": entry(shape=(True, 4))}, b"1234"),
        document({"a": entry(offsets=(0, 4, 8))}, b"1234"),
        document({"a": entry("F8")}, b"1234"),
        document({"a": entry("BF16", (2,))}, b"1234"),
        document({"a": entry(extra=1)}, b"1234"),
        document({"a": 4}, b"1234"),
        document({"a": entry(), "b": entry()}, b"1234"),
        document({"__metadata__": {}, "a": entry()}, b"1234"),
        document(f'{{"a": {json.dumps(entry())}, "a": {json.dumps(entry())}}}', b"1234"),
        document({str(i): entry(shape=(0,), offsets=(0, 0)) for i in range(65)}, b""),
        document("[" * 9000, b""),
    ],
)
def test_broken_documents_are_refused(data):
    with pytest.raises(ProtocolError) as caught:
        read_tensors(data)
    assert caught.value.code == MALFORMED


def test_a_long_header_is_refused():
    with pytest.raises(ProtocolError) as caught:
        read_tensors(document("{" + " " * (1 << 16) + "}", b""))
    assert caught.value.code == TOO_LARGE


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 5000), st.binary(min_size=1, max_size=6), st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(at, change, noise):
    whole = write_tensors(ARRAYS)
    at %= len(whole)
    for data in (noise, whole[:at] + change + whole[at + len(change) :], whole[:at]):
        with suppress(ProtocolError):
            read_tensors(data)
