"""Tensors of a safetensors file, read only when every one is exactly what is expected.

Names, shapes and types come from the file's header and are compared before anything is allocated.
"""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ffsplat.errors import CheckpointError
from ffsplat.weights.header import DTYPES, Header, listing, read_header


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
