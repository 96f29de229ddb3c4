"""Undo and redo: scenes are immutable, so a step back is a reference to the scene before."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from ffsplat.edit.operations import Operation
from ffsplat.errors import UsageError
from ffsplat.types import Scene

MAX_STEPS = 100
"""Steps that can be taken back, unless told otherwise."""

MAX_BYTES = 1 << 30
"""Bytes of arrays that the present scene does not use and that are kept for undo and redo."""


class History:
    """A scene under change, and the scenes that it was and will be again.

    Operations share what they do not change, so a step costs what it changed: a colour costs
    colours, and only a step that takes Gaussians away costs a scene. Beyond `max_steps` steps, or
    `max_bytes` bytes held for them, the oldest are forgotten; the last step is always kept.
    """

    def __init__(self, scene: Scene, max_steps: int = MAX_STEPS, max_bytes: int = MAX_BYTES):
        """Start from a scene. Raises ValueError for less than one step."""
        if max_steps < 1:
            raise ValueError(f"a history of {max_steps} steps")
        self.max_steps, self.max_bytes = max_steps, max_bytes
        self._scene = scene
        self._before: list[Scene] = []
        self._after: list[Scene] = []

    @property
    def scene(self) -> Scene:
        """The scene as it is now."""
        return self._scene

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._before)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step that was taken back."""
        return bool(self._after)

    @property
    def held_bytes(self) -> int:
        """Bytes of arrays that are kept for undo and redo alone."""
        arrays = {id(a): a.nbytes for past in self._before + self._after for a in _arrays(past)}
        return sum(arrays.values()) - sum(
            arrays.get(id(array), 0) for array in _unique(_arrays(self._scene))
        )

    def do(self, operation: Operation, chosen: Bool[np.ndarray, " n"]) -> Scene:
        """Apply an operation; what was taken back before is gone. Returns the new scene.

        Nothing changes if the operation raises, or if `chosen` is not of the scene as it is now,
        which is a UsageError.
        """
        if len(chosen) != len(self._scene):
            raise UsageError(
                f"{len(chosen)} truth values for {len(self._scene)} Gaussians",
                "choose again after something was taken away",
            )
        changed = operation.apply(self._scene, chosen)
        self._before.append(self._scene)
        self._scene, self._after = changed, []
        self._forget()
        return changed

    def undo(self) -> Scene:
        """Take the last step back and return the scene; without one nothing happens."""
        if self._before:
            self._after.append(self._scene)
            self._scene = self._before.pop()
        return self._scene

    def redo(self) -> Scene:
        """Take again the step that was taken back; without one nothing happens."""
        if self._after:
            self._before.append(self._scene)
            self._scene = self._after.pop()
        return self._scene

    def _forget(self) -> None:
        del self._before[: -self.max_steps]
        while len(self._before) > 1 and self.held_bytes > self.max_bytes:
            del self._before[0]


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """All arrays of a scene, whatever holds them."""
    if isinstance(value, np.ndarray):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _arrays(getattr(value, field.name))
    elif isinstance(value, dict):
        for part in value.values():
            yield from _arrays(part)


def _unique(arrays: Iterator[np.ndarray]) -> list[np.ndarray]:
    return list({id(array): array for array in arrays}.values())
