"""See a scene in a browser, ask it and change it, through viser (the extra `view`)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ffsplat.view.serving import serve
    from ffsplat.view.viewer import Viewer, viewing

__all__ = ["Viewer", "serve", "viewing"]

_HOMES = {"Viewer": "viewer", "serve": "serving", "viewing": "viewer"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
