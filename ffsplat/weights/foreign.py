"""Foreign checkpoints (.pt, .pth, .ckpt, .bin) made into safetensors without running their code.

`archive` looks at the file first. Then torch reads it in its restricted mode, with the numbers
mapped from disk; no tensor may claim more numbers than its storage has, nor all together more than
the file could hold.
"""

import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ffsplat.errors import CheckpointError, UsageError
from ffsplat.io.atomic import atomic_output, check_output
from ffsplat.weights.archive import NUMPY_SCALARS, check_archive
from ffsplat.weights.header import listing, shown

TABLES = ("state_dict", "model")
"""Names under which checkpoints keep their table of tensors."""

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""Kinds of numbers, as safetensors calls them."""

SHARING = 2
"""Tensors may share storages (tied weights), up to so many times the size of the file."""

_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Converted:
    """What was written: the file, its counts, and what beside the table of tensors was left out."""

    path: Path
    tensors: int
    parameters: int
    bytes: int
    sha256: str
    left_out: tuple[str, ...]


def convert_weights(
    source: Path, folder: Path, prefix: str = "", overwrite: bool = False
) -> Converted:
    """Write the tensors of a checkpoint of PyTorch as `folder`/model.safetensors.

    Only tensors whose names begin with `prefix` are kept, without it; kinds of numbers stay. Raises
    CheckpointError for a file that is not safe or not a table of tensors, UsageError if no name
    begins with `prefix`, and OutputError as `atomic_output`.
    """
    target = folder / _WEIGHTS
    if folder.exists() or not folder.parent.exists():
        check_output(target, overwrite)
    tensors, left_out = _read(source)
    kept = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
    if not kept or "" in kept:
        starts = sorted({name.partition(".")[0] + "." for name in tensors})
        raise UsageError(
            f"no tensor begins with {shown(prefix)}", f"they begin with {listing(starts)}"
        )
    folder.mkdir(exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with atomic_output(target, overwrite, _total(kept)) as file:
        for piece in _pieces(kept):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
    count = sum(tensor.numel() for tensor in kept.values())
    return Converted(target, len(kept), count, size, digest.hexdigest(), left_out)


def load_restricted(source: Path, numpy_scalars: bool = False) -> Any:
    """What a file of `torch.save` holds, if that is tensors and plain values: nothing else is run.

    Tensors are mapped from disk; `check_tensors` looks at them. `numpy_scalars` may stand beside
    them, as training leaves them. Raises CheckpointError for any other file.
    """
    try:
        check_archive(source, NUMPY_SCALARS if numpy_scalars else frozenset())
        with torch.serialization.safe_globals(_numpy_scalars() if numpy_scalars else []):
            return torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {source}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError,
            AttributeError, IndexError, OverflowError, RecursionError) as error:  # fmt: skip
        raise CheckpointError(f"{source} is refused: {shown(error)}") from error


def _numpy_scalars() -> list[Any]:
    """What builds numbers of numpy, under the names that numpy 1 and 2 have for it."""
    scalar = np.float32(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, *kinds]


def read_tensors(source: Path) -> dict[str, Tensor]:
    """The table of tensors of a checkpoint, mapped from disk; CheckpointError if it is none."""
    return _read(source)[0]


def _read(source: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The table of tensors of a checkpoint, mapped from disk, and the names of what else it has."""
    loaded = load_restricted(source)
    table, left_out = _table(loaded)
    if not isinstance(table, Mapping) or not table:
        raise CheckpointError(f"{source} holds {type(loaded).__name__}, not a table of tensors")
    others = [
        f"{shown(name)} ({type(value).__name__})"
        for name, value in table.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if others:
        raise CheckpointError(
            f"{source} holds more than tensors: {', '.join(others[:5])}",
            f"its table of tensors should stand under one of {', '.join(TABLES)}",
        )
    check_tensors(source, table)
    return dict(table), left_out


def _table(loaded: Any) -> tuple[Any, tuple[str, ...]]:
    for name in TABLES:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            others = sorted(shown(key) for key in loaded if key != name)
            return loaded[name], tuple(others)
    return loaded, ()


def check_tensors(source: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors of kinds that safetensors lacks, and those that would expand when copied."""
    odd = [n for n, t in tensors.items() if t.layout != torch.strided or t.dtype not in NAMES]
    if odd:
        raise CheckpointError(
            f"{source} has tensors of a kind that is not supported: {listing(odd)}"
        )
    expanded = [
        name
        for name, tensor in tensors.items()
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
    ]
    if expanded:
        raise CheckpointError(
            f"{source} has tensors that claim more numbers than it holds: {listing(expanded)}"
        )
    most = SHARING * source.stat().st_size
    if _total(tensors) > most:
        raise CheckpointError(f"the tensors of {source} would need more than {most} bytes")


def _total(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    """The content of a safetensors file, piece by piece, wide numbers first so all are aligned.

    Source: github.com/huggingface/safetensors, README, "Format".
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": NAMES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        yield tensors[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
