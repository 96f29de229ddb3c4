"""A memory of places by what a network says of whole pictures: which old one is like this?"""

from collections import deque
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float32

from ffsplat.prediction import Prediction

NEIGHBOR = 75
"""Percentile of the likenesses to a neighbourhood that stands for what overlaps well."""
LOW = 10
"""Percentile of these, over time, from which on a place is a candidate.

Measured with ffsplat-tiny on one round through each of 8 procedural rooms (40 views) and on a real
office (45), the last 8 views excluded: of 37 views of rooms that see much of a place of long ago,
29 name a right one, of 9 in the office 6. Of all others, 39 in 187 and 14 in 27 name a wrong one,
which costs a view in a window and is refused by its colours.
"""
ENOUGH = 5
"""Neighbourhoods that must be known before anything is a candidate."""
REMEMBERED = 64
"""Neighbourhoods that are remembered."""
SLOWEST = 1000
"""Descriptors over which the mean runs."""


def global_descriptor(prediction: Prediction, view: int) -> Float32[np.ndarray, " d"]:
    """What a view of the first set shows, as one vector of unit length.

    It is the mean of the network's features, or of its descriptors of tokens where it has none.
    Raises ValueError for a network that has neither.
    """
    tokens = prediction.features
    if tokens is None or not tokens.shape[-1]:
        tokens = prediction.token_descriptors
    if not tokens.shape[-1]:
        raise ValueError("the network describes no tokens")
    mean = tokens[0, view].float().mean((0, 1)).cpu().numpy()
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


class PlaceMemory:
    """Descriptors of at most `max_places` places by number; one more, and the oldest goes.

    Means of tokens are all nearly parallel. What tells places apart is how they differ from the
    running mean, so likeness is the cosine of these differences; and how alike two views must be
    is learnt from those that are asked about with the neighbours that they are known to have.
    """

    def __init__(self, max_places: int):
        if max_places < 1:
            raise ValueError(f"max_places must be at least 1, not {max_places}")
        self.max_places = max_places
        self._places: dict[int, None] = {}
        self._table = np.zeros((0, 0), np.float32)  # a row for each, in their order
        self._mean: Float32[np.ndarray, " d"] | None = None
        self._seen = 0
        self._near: deque[float] = deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: int, descriptor: Float32[np.ndarray, " d"]) -> None:
        """Remember a place; a number that is there already is described anew."""
        if key not in self._places:
            if len(self._places) == self.max_places:
                self.remove(next(iter(self._places)))
            if not self._table.size:
                self._table = np.zeros((self.max_places, len(descriptor)), np.float32)
            self._places[key] = None
        self._table[self._row(key)] = descriptor
        self._seen = min(self._seen + 1, SLOWEST)
        mean = descriptor if self._mean is None else self._mean
        self._mean = mean + (descriptor - mean) / np.float32(self._seen)

    def remove(self, key: int) -> None:
        """Forget a place, if it is remembered."""
        if key in self._places:
            row, after = self._row(key), len(self._places)
            self._table[row : after - 1] = self._table[row + 1 : after]
            del self._places[key]

    def _row(self, key: int) -> int:
        return list(self._places).index(key)

    def state(self) -> dict[str, np.ndarray]:
        """What was learnt of likeness, as arrays; the places themselves are for the caller."""
        mean = np.zeros(0, np.float32) if self._mean is None else self._mean
        return {"mean": mean, "seen": np.array(self._seen), "near": np.array(self._near, float)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Know again what `state` gave; the places were added already."""
        self._mean = arrays["mean"] if arrays["mean"].size else None
        self._seen = int(arrays["seen"])
        self._near = deque(arrays["near"].tolist(), maxlen=REMEMBERED)

    def likeness(self, descriptor: Float32[np.ndarray, " d"]) -> dict[int, float]:
        """How alike each place is to what is described, in [-1, 1]; 0 at random."""
        if self._mean is None or not self._places:
            return {}
        table = _unit(self._table[: len(self._places)] - self._mean)
        # No BLAS: its idle threads would spin for a while, on a core that the stream needs.
        alike = np.einsum("nd,d->n", table, _unit(descriptor - self._mean))
        return dict(zip(self._places, alike.tolist(), strict=True))

    def candidates(
        self, descriptor: Float32[np.ndarray, " d"], excluded: Collection[int], count: int
    ) -> list[tuple[int, float]]:
        """At most `count` places that may be the one described, with their likeness, best first.

        `excluded` are the places of the neighbourhood: they are no candidates, and from how alike
        they are is learnt what is enough. The place itself may be among them.
        """
        alike = self.likeness(descriptor)
        near = [alike.pop(key) for key in set(excluded) if key in alike]
        near = [one for one in near if one < 1 - 1e-5]  # a place is like itself
        # A mean of the neighbourhood alone would tell nothing.
        if near and len(alike) >= ENOUGH:
            self._near.append(float(np.percentile(near, NEIGHBOR)))
        if len(self._near) < ENOUGH:
            return []
        least = np.percentile(self._near, LOW)
        found = [(key, one) for key, one in alike.items() if one >= least]
        return sorted(found, key=lambda place: -place[1])[:count]


def _unit(vectors: Float32[np.ndarray, "*n d"]) -> Float32[np.ndarray, "*n d"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
