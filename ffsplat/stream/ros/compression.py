"""Compressed blocks of recordings, never longer than was said before."""

import bz2
import sys
from pathlib import Path
from typing import Any

from ffsplat.errors import StreamError

LEVEL = 1

UNPACK = "unpack it with zstd -d, and give the file that comes of it"

_PIECE = 1 << 20

_MAGICS = {b"BZh": "bz2", b"\x04\x22\x4d\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}


def _zstd() -> Any:
    """The module that `rosbags` uses too: of the standard library from Python 3.14 on."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def zstd_compress(data: bytes) -> bytes:
    """One zstd frame, fast rather than small."""
    return _zstd().compress(data, LEVEL)


def kind_of(data: bytes) -> str:
    """The compression that the first bytes tell, "" if none."""
    return next((kind for magic, kind in _MAGICS.items() if data.startswith(magic)), "")


def decompress(data: bytes, kind: str, limit: int) -> bytes:
    """The content of "zstd", "lz4", "bz2" or "" data.

    Raises StreamError if the data are damaged, of another kind, or hold more than `limit` bytes;
    no more than that is ever made.
    """
    try:
        out = data if kind == "" else _unpack(data, kind, limit + 1)
    except (OSError, ValueError, RuntimeError, EOFError, MemoryError) as error:
        raise StreamError(f"damaged {kind} block: {str(error)[:80]}") from error
    except _zstd().ZstdError as error:
        raise StreamError(f"damaged {kind} block: {str(error)[:80]}") from error
    if len(out) > limit:
        raise StreamError(f"a block holds more than the {limit} bytes that it may")
    return out


def unpack_file(packed: Path, target: Path, limit: int) -> None:
    """Write the content of a zstd file; StreamError, as `decompress`, for more than `limit` bytes.

    The target may be left in part then.
    """
    zstd, written = _zstd(), 0
    try:
        with zstd.open(packed, "rb") as source, target.open("wb") as out:
            while piece := source.read(_PIECE):
                written += len(piece)
                if written > limit:
                    raise StreamError(f"{packed.name} holds more than {limit >> 20} MB", UNPACK)
                out.write(piece)
    except (OSError, EOFError, zstd.ZstdError) as error:
        raise StreamError(f"cannot unpack {packed.name}: {str(error)[:80]}", UNPACK) from error


def _unpack(data: bytes, kind: str, limit: int) -> bytes:
    out = bytearray()
    while data and len(out) < limit:
        unpacker = _decompressor(kind)
        out += unpacker.decompress(data, max_length=limit - len(out))
        if not unpacker.eof:
            if len(out) < limit:
                raise ValueError("truncated")
            break
        data = unpacker.unused_data or b""
    return bytes(out)


def _decompressor(kind: str) -> Any:
    if kind == "zstd":
        return _zstd().ZstdDecompressor()
    if kind == "bz2":
        return bz2.BZ2Decompressor()
    if kind == "lz4":
        from lz4.frame import LZ4FrameDecompressor

        return LZ4FrameDecompressor()
    raise StreamError(f"blocks of kind {kind[:20]!r} are not read")
