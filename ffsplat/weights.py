"""Weights on disk: safetensors, read only when every tensor is exactly what is expected.

Names, shapes and types come from the file's header and are compared before anything is allocated.
Pickles are refused: opening one can run any code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ffsplat.errors import CheckpointError

MAX_HEADER = 1 << 20
PICKLES = ("*.pt", "*.pth", "*.ckpt", "*.bin", "*.pkl")
DTYPES = ("F16", "BF16", "F32")

Header = dict[str, dict[str, Any]]
"""Type ("dtype") and "shape" of each tensor of a file."""


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file in float32; `expected` (meta tensors will do) gives their shapes.

    Raises CheckpointError if the file breaks its format, or if tensors are missing, unexpected,
    mis-shaped, no floats or not finite.
    """
    check_fit(path, read_header(path), expected)
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    tensors = {key: tensor.float() for key, tensor in tensors.items()}
    if broken := not_finite(tensors):
        raise CheckpointError(f"{path.name} has values that are not finite: {listing(broken)}")
    return tensors


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with a value that is infinite or no number."""
    return [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]


def refuse_pickle(path: Path) -> None:
    """Raise CheckpointError if the name is that of a pickle."""
    if any(path.match(pattern) for pattern in PICKLES):
        raise CheckpointError(
            f"{path} is a pickle, which can run any code; it is not opened",
            "save the weights as model.safetensors where they were trained",
        )


def read_header(path: Path) -> Header:
    """What a safetensors file says it holds, without its data; raises CheckpointError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise CheckpointError(f"{path} is not a safetensors file: its header is broken")
        content = file.read(length)
    try:
        header = json.loads(content, object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        return {
            name: {"dtype": e["dtype"], "shape": list(e["shape"])} for name, e in header.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} has a broken header: {shown(error)}") from error


def check_fit(path: Path, header: Header, expected: Mapping[str, Tensor]) -> None:
    """Refuse weights whose names, shapes or types are not exactly those expected."""
    missing = sorted(set(expected) - set(header))
    unexpected = sorted(set(header) - set(expected))
    common = sorted(set(expected) & set(header))
    misshaped = [key for key in common if header[key]["shape"] != list(expected[key].shape)]
    mistyped = [key for key in common if header[key]["dtype"] not in DTYPES]
    counts = [
        f"{len(names)} {what}" + (f" ({listing(names)})" if names else "")
        for names, what in (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (misshaped, "shape mismatches"),
        )
    ]
    if missing or unexpected or misshaped:
        raise CheckpointError(f"{path.name} does not fit this architecture: {', '.join(counts)}")
    if mistyped:
        raise CheckpointError(f"{path.name} has tensors that are no floats: {listing(mistyped)}")


def listing(names: list[str]) -> str:
    """A few names, printable whatever a hostile file calls its tensors."""
    more = f", and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


def shown(text: object) -> str:
    """At most 80 characters of foreign text, those that do not print escaped."""
    return ascii(str(text)[:80])[1:-1]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)
