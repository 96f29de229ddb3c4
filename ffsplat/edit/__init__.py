"""Change scenes: choose Gaussians, apply operations to them, go back, join scenes to one.

Nothing is filled in: where something was taken away there is a hole. Names are imported when they
are first used, so that taking something away needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ffsplat.edit.history import History
    from ffsplat.edit.joining import Merged, merge
    from ffsplat.edit.labels import Label
    from ffsplat.edit.moving import Move, similarity_of, turn_of
    from ffsplat.edit.operations import Extract, Operation, Remove
    from ffsplat.edit.placing import Placed, place_by_views
    from ffsplat.edit.recolor import Recolor, ShiftHue, color_of
    from ffsplat.edit.selecting import select, select_box, select_instance

__all__ = [
    "Extract",
    "History",
    "Label",
    "Merged",
    "Move",
    "Operation",
    "Placed",
    "Recolor",
    "Remove",
    "ShiftHue",
    "color_of",
    "merge",
    "place_by_views",
    "select",
    "select_box",
    "select_instance",
    "similarity_of",
    "turn_of",
]

_HOMES = {
    "history": ("History",),
    "joining": ("Merged", "merge"),
    "labels": ("Label",),
    "moving": ("Move", "similarity_of", "turn_of"),
    "operations": ("Extract", "Operation", "Remove"),
    "placing": ("Placed", "place_by_views"),
    "recolor": ("Recolor", "ShiftHue", "color_of"),
    "selecting": ("select", "select_box", "select_instance"),
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
