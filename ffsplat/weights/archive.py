"""What a checkpoint of PyTorch would do if it were opened, found out without opening it.

Such a file is a zip archive of a pickle and of the raw numbers. The archive's directory is held
against the size of the file, so nothing can expand; the pickle's instructions are read, not run:
they may name what builds tensors of plain kinds and nothing else.
"""

import pickletools
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

from ffsplat.errors import CheckpointError
from ffsplat.weights.header import shown

MAX_DIRECTORY = 16 << 20
MAX_PICKLE = 8 << 20
MAX_INSTRUCTIONS = 1_000_000

_STORAGES = "Float Half BFloat16 Double Long Int Short Char Byte Bool"
ALLOWED = frozenset(
    {
        "collections OrderedDict",
        "torch Size",
        "torch device",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor_v2",
        *(f"torch {kind}Storage" for kind in _STORAGES.split()),
    }
)
"""What a pickle may name: none of it does more than to build a value."""

NUMPY_SCALARS = frozenset(
    {
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
        "numpy dtype",
        "_codecs encode",
    }
)
"""What a pickle names to build a number of numpy, as checkpoints of training have them."""

_KINDS = re.compile(r"torch (bfloat16|float16|float32|float64|u?int\d+|bool)")

_INSTRUCTIONS = frozenset(
    [
        "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID",
        "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "EMPTY_LIST", "APPEND", "APPENDS",
        "EMPTY_DICT", "SETITEM", "SETITEMS", "NONE", "NEWTRUE", "NEWFALSE",
        "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
        "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    ]
)  # fmt: skip
"""Instructions of pickles that `torch.save` writes. Others can call what they do not name."""


def check_archive(path: Path, more: frozenset[str] = frozenset()) -> None:
    """Raise CheckpointError unless the file is an archive of tensors that can be opened safely.

    `more` may be named by its pickle beside what is ALLOWED.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            raise CheckpointError(
                f"{path} is not an archive as PyTorch writes them since version 1.6",
                "older checkpoints cannot be checked; save it again with a newer PyTorch",
            )
        if _directory_size(file, size) > MAX_DIRECTORY:
            raise CheckpointError(f"the directory of {path} is larger than {MAX_DIRECTORY} bytes")
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                pickle = _check_entries(path, entries, size)
                content = archive.read(pickle)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
            raise CheckpointError(f"{path} is a broken archive: {shown(error)}") from error
    _check_instructions(path, content, ALLOWED | more)


def _directory_size(file: BinaryIO, size: int) -> int:
    """Bytes of the archive's directory, by its end record; 0 if there is none.

    Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 4.3.14 to 4.3.16.
    """
    start = max(0, size - 22 - 65535)
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        return 0
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail[max(0, at - 20) : at]
    if locator[:4] == b"PK\6\7":
        file.seek(min(int.from_bytes(locator[8:16], "little"), size))
        record = file.read(56)
        length = max(length % 0xFFFFFFFF, int.from_bytes(record[40:48], "little"))
    return length


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], size: int) -> zipfile.ZipInfo:
    """The entry of the pickle, if no entry is compressed, overlaps another, or holds a program."""
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise CheckpointError(f"{path} is a broken archive: a name stands twice")
    if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1 for e in entries):
        raise CheckpointError(f"{path} is no checkpoint: its entries are compressed or encrypted")
    claimed = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if claimed > size:
        raise CheckpointError(f"{path} claims to hold {claimed} bytes and has {size}")
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(f"{path} is a TorchScript program", "only its weights can be taken")
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(f"{path} is no checkpoint of PyTorch: it has no data.pkl")
    if pickles[0].file_size > MAX_PICKLE:
        raise CheckpointError(f"the table of {path} is larger than {MAX_PICKLE} bytes")
    return pickles[0]


def _check_instructions(path: Path, content: bytes, allowed: frozenset[str]) -> None:
    """Refuse a pickle that does more than to build tensors and tables of them."""
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(content)):
            if count > MAX_INSTRUCTIONS:
                raise CheckpointError(f"{path} has more than {MAX_INSTRUCTIONS} instructions")
            if instruction.name not in _INSTRUCTIONS:
                raise CheckpointError(
                    f"{path} is refused: its pickle uses {instruction.name}, which no tensor needs"
                )
            name = str(argument)
            if instruction.name == "GLOBAL" and name not in allowed and not _KINDS.fullmatch(name):
                raise CheckpointError(
                    f"{path} is refused: it asks for {shown(name.replace(' ', '.'))},"
                    " which is no tensor and could run any code",
                    "save only the state_dict where it was trained",
                )
    except (ValueError, EOFError, IndexError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} has a broken pickle: {shown(error)}") from error
