"""The splats on the pages, in slots of one size: what a slot holds may change, its size never does.

Source: `GaussianSplats.tsx` of viser 1.1. Where the number of Gaussians or of nodes changed
(`sizeChanged`), a page draws none until they were sorted anew, which takes seconds on a slow
machine; where only what they hold changed, it draws them in the order that it has.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt32

if TYPE_CHECKING:
    import viser

Words = UInt32[np.ndarray, "n 8"]
Piece = tuple[int, int]
"""A part, and which of its pieces."""

SLOT = 2**14
"""Gaussians of a slot, 512 KiB."""

FEWEST_OF_MAP = 8
"""Slots of a map that grows."""

_ROOT = "/splats"
_LOOK = slice(3, None)
"""Of the words of a Gaussian all but its centre."""


class Places:
    """Which slot holds which piece; there are `count` slots, some of them spare."""

    def __init__(self) -> None:
        self.count = 0
        self._slots: dict[Piece, int] = {}

    def of(self, pieces: Collection[Piece], fewest: int = 1) -> dict[Piece, int]:
        """The slots of pieces, each in the one that it had; if too few, there are twice as many."""
        slots = {piece: slot for piece, slot in self._slots.items() if piece in pieces}
        new = [piece for piece in pieces if piece not in slots]
        needed = max(len(pieces), fewest)
        if needed > self.count:
            self.count = max(needed, 2 * self.count)
        free = sorted(set(range(self.count)) - set(slots.values()))
        self._slots = slots | dict(zip(new, free, strict=False))  # the rest of the free is spare
        return self._slots


class Slots:
    """viser's nodes for parts; a piece that did not change is not sent. Counts what is sent."""

    def __init__(self, server: "viser.ViserServer"):
        self._server = server
        self._places = Places()
        self._handles: list[viser.GaussianSplatHandle] = []
        self.sent_bytes = 0

    def show(self, parts: Mapping[int, Words], fewest: int = 1) -> None:
        """Make the pages show these parts and nothing else, in no fewer slots than that.

        With 0 the parts are nodes of their own size: pages draw nothing but what is seen, and none
        of it for a moment whenever a size changes.
        """
        held = self._in_slots(parts, fewest) if fewest else dict(enumerate(parts.values()))
        count = self._places.count if fewest else len(held)
        with self._server.atomic():
            while len(self._handles) > count:
                self._handles.pop().remove()
            for slot in range(count):
                if slot == len(self._handles):
                    self._handles.append(self._new(slot))
                    self._put(slot, held.get(slot, spare(parts)))
                elif slot in held:
                    self._put(slot, held[slot])
                self._handles[slot].visible = slot in held
        self._server.flush()

    def _in_slots(
        self, parts: Mapping[int, Words], fewest: int
    ) -> dict[int, UInt32[np.ndarray, "slot 8"]]:
        """What the slots in use hold."""
        pieces = {
            (part, start // SLOT): words[start : start + SLOT]
            for part, words in parts.items()
            for start in range(0, len(words), SLOT)
        }
        places = self._places.of(pieces, fewest)
        return {slot: filled(pieces[piece]) for piece, slot in places.items()}

    def _new(self, slot: int) -> "viser.GaussianSplatHandle":
        one = np.zeros((1, 3), np.float32)
        return self._server.scene.add_gaussian_splats(
            f"{_ROOT}/{slot}",
            one, np.zeros((1, 3, 3), np.float32), one, np.zeros((1, 1), np.float32),
        )  # fmt: skip

    def _put(self, slot: int, words: Words) -> None:
        handle = self._handles[slot]
        if not np.array_equal(handle.buffer, words):
            handle.buffer = words
            self.sent_bytes += words.nbytes


def spare(parts: Mapping[int, Words]) -> UInt32[np.ndarray, "slot 8"]:
    """A slot in which nothing is seen, where some of the parts is."""
    return filled(unseen(next(iter(parts.values()))[:1]))


def unseen(words: Words) -> Words:
    """Gaussians at the same places that cannot be seen."""
    hidden = words.copy()
    hidden[:, _LOOK] = 0
    return hidden


def filled(words: Words) -> UInt32[np.ndarray, "slot 8"]:
    """These Gaussians, and as many that cannot be seen as a slot has room for.

    Those lie where the first one does: a page sorts by 16 bits of the range of all depths.
    """
    return np.concatenate([words, np.repeat(unseen(words[:1]), SLOT - len(words), axis=0)])
