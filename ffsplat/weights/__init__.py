"""Weights on disk: safetensors, read only when every tensor is exactly what is expected.

`header` needs no torch; what does is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ffsplat.weights.header import (
    DTYPES,
    PICKLES,
    Header,
    listing,
    read_header,
    refuse_pickle,
    shown,
)

if TYPE_CHECKING:
    from ffsplat.weights.foreign import Converted, convert_weights
    from ffsplat.weights.tensors import check_fit, not_finite, read_weights

__all__ = [
    "DTYPES",
    "PICKLES",
    "Converted",
    "Header",
    "check_fit",
    "convert_weights",
    "listing",
    "not_finite",
    "read_header",
    "read_weights",
    "refuse_pickle",
    "shown",
]

_HOMES = {
    "ffsplat.weights.foreign": ("Converted", "convert_weights"),
    "ffsplat.weights.tensors": ("check_fit", "not_finite", "read_weights"),
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
