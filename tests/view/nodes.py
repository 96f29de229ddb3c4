"""Of viser's server what a screen needs: it keeps nodes, and counts what they are given."""

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np


class Handle:
    """A node that counts the buffers that it is given."""

    def __init__(self, remove: Callable[[], object]) -> None:
        self.puts, self.visible = 0, True
        self.remove = remove
        self._buffer = np.zeros((1, 8), np.uint32)

    @property
    def buffer(self) -> np.ndarray:
        return self._buffer

    @buffer.setter
    def buffer(self, words: np.ndarray) -> None:
        self._buffer = words
        self.puts += 1


class Server:
    """Nodes by their name."""

    def __init__(self) -> None:
        self.nodes: dict[str, Handle] = {}
        self.scene = SimpleNamespace(add_gaussian_splats=self._add)

    def _add(self, name: str, *_: np.ndarray) -> Handle:
        self.nodes[name] = Handle(lambda: self.nodes.pop(name))
        return self.nodes[name]

    def atomic(self):
        return nullcontext()

    def flush(self) -> None:
        pass
