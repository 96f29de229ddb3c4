"""Unposed photos to semantic 3D Gaussians in one forward pass.

Names are imported when they are first used, so `import ffsplat` is quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ffsplat.api import InferReport, InferResult, Model, load
    from ffsplat.config import ModelConfig
    from ffsplat.errors import FFSplatError
    from ffsplat.io import load_scene
    from ffsplat.model import FFSplat
    from ffsplat.prediction import Prediction
    from ffsplat.types import Cameras, Codebook, Gaussians, Scene, SparseCode, Views

    __version__: str

__all__ = [
    "Cameras",
    "Codebook",
    "FFSplat",
    "FFSplatError",
    "Gaussians",
    "InferReport",
    "InferResult",
    "Model",
    "ModelConfig",
    "Prediction",
    "Scene",
    "SparseCode",
    "Views",
    "__version__",
    "load",
    "load_scene",
]

_HOMES = {
    "ffsplat.api": ("InferReport", "InferResult", "Model", "load"),
    "ffsplat.config": ("ModelConfig",),
    "ffsplat.errors": ("FFSplatError",),
    "ffsplat.io": ("load_scene",),
    "ffsplat.model": ("FFSplat",),
    "ffsplat.prediction": ("Prediction",),
    "ffsplat.types": ("Cameras", "Codebook", "Gaussians", "Scene", "SparseCode", "Views"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value = _version()
    else:
        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module 'ffsplat' has no attribute {name!r}")
        value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ffsplat")
    except PackageNotFoundError:  # a checkout on the path that was never installed
        return "unknown"
