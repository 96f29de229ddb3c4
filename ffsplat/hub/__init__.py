"""Weights: from a name to a folder, from a folder to a network, back into a folder, onto the hub.

`resolve` and what it needs work without torch; what needs it is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ffsplat.hub.folder import read_config
from ffsplat.hub.locate import BUNDLED, ModelFolder, resolve
from ffsplat.zoo import CODEBOOK, CONFIG, FILES, WEIGHTS

if TYPE_CHECKING:
    from ffsplat.hub.checkpoint import load_checkpoint, save_checkpoint
    from ffsplat.hub.upload import push_checkpoint

__all__ = [
    "BUNDLED",
    "CODEBOOK",
    "CONFIG",
    "FILES",
    "WEIGHTS",
    "ModelFolder",
    "load_checkpoint",
    "push_checkpoint",
    "read_config",
    "resolve",
    "save_checkpoint",
]

_HOMES = {
    "ffsplat.hub.checkpoint": ("load_checkpoint", "save_checkpoint"),
    "ffsplat.hub.upload": ("push_checkpoint",),
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
