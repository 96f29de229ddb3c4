"""Gaussians to images: `rasterize` for torch tensors, `render` for scenes, `orbit` for cameras."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ffsplat.render.orbit import orbit

if TYPE_CHECKING:
    from ffsplat.render.scene import What, render
    from ffsplat.render.splatting import Backend, Rasterized, rasterize, rasterize_sets

__all__ = ["Backend", "Rasterized", "What", "orbit", "rasterize", "rasterize_sets", "render"]

_HOMES = {
    "Backend": "splatting",
    "Rasterized": "splatting",
    "What": "scene",
    "rasterize": "splatting",
    "rasterize_sets": "splatting",
    "render": "scene",
}


def __getattr__(name: str) -> Any:
    """Load torch only for those who draw: colours and orbits do without."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
