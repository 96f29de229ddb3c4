"""What matches a query: Gaussians grouped into instances, ranked by score and support."""

import importlib
import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from ffsplat.codes import half_values
from ffsplat.types import NO_ID, Scene

SUPPORT = 0.002
"""Share of the scene's Gaussians with which a match's score counts half when matches are ranked:
a sure handful is more often a slip of the network than a less sure thing of thousands."""

MIN_SHARE = 0.1
"""A whole thing is a match where at least this share of its Gaussians is."""


@dataclass(frozen=True, eq=False)
class Hit:
    """One match: an instance, or all matching Gaussians of one name where none has an instance.

    `score` is the mean over the whole instance for a whole thing, and over the matching Gaussians
    for a part, a colour or a match without instance (`instance` -1). `count` is the number of
    matching Gaussians, `rows` their indices in the scene, `center` their centroid weighted by
    opacity (that for meaning, where there are two); `minimum` and `maximum` are the full box
    around their means, in world units.
    """

    name: str
    instance: int
    score: float
    count: int
    center: Float32[np.ndarray, "3"]
    minimum: Float32[np.ndarray, "3"]
    maximum: Float32[np.ndarray, "3"]
    rows: Int[np.ndarray, " count"]


@dataclass(frozen=True, eq=False)
class Match:
    """Scores before they are grouped; `named` marks per level the rows that give a hit its name.

    `prefix` has the colours that precede that name, `whole` says that whole things were asked for,
    and `threshold` is the score from which a Gaussian matches unless the user says otherwise.
    `label`, where a strategy tells labels apart, indexes `labels` for each Gaussian, -1 for none.
    `notes` say what a strategy assumed.
    """

    scores: Float32[np.ndarray, " n"]
    named: tuple[Bool[np.ndarray, " rows"], ...]
    prefix: tuple[str, ...]
    whole: bool
    threshold: float
    labels: tuple[str, ...] = ()
    label: Int32[np.ndarray, " n"] | None = None
    notes: tuple[str, ...] = ()


Backend = Literal["auto", "numba", "numpy"]


def hits_of(
    scene: Scene,
    match: Match,
    text: str,
    threshold: float,
    min_count: int,
    max_hits: int,
    backend: Backend = "auto",
) -> tuple[Hit, ...]:
    """Matching Gaussians in groups: one an instance, and without instance one a name.

    `auto` takes numba once something has imported it, as `codes.score` does. Both find the same.
    """
    if scene.codes is None or scene.codebook is None or not len(scene):
        return ()
    passes = _passes(backend)
    namer = _Namer(scene, match, passes)
    instances = _instances(scene)
    slots, count = slots_of(instances)
    groups = slots.astype(np.int32)  # of its own: the passes write into it
    bare = np.flatnonzero(instances < 0)
    groups[bare] = count + 1 + namer.labels(0, bare)
    limit = np.float32(threshold)
    sizes, totals, counts, found = passes.sums(
        match.scores, limit, groups, count + 1 + namer.names(0)
    )
    scores = {}
    for g in np.flatnonzero(counts >= max(min_count, 1)).tolist():
        voted = match.whole and g < count
        if not voted or counts[g] >= MIN_SHARE * sizes[g]:
            scores[g] = float(totals[g] / sizes[g] if voted else found[g] / counts[g])
    few = SUPPORT * len(scene)
    chosen = sorted(scores, key=lambda g: (-scores[g] * counts[g] / (counts[g] + few), g))
    chosen = chosen[:max_hits]
    place = np.full(len(counts), NO_ID, np.int64)
    place[chosen] = np.arange(len(chosen))
    starts = np.concatenate([[0], np.cumsum(counts[chosen])]).astype(np.int64)
    rows = passes.members(groups, place, starts)
    return tuple(
        _hit(scene, one, scores[g], namer.name(one) or text, passes)
        for g, one in zip(chosen, np.split(rows, starts[1:])[:-1], strict=True)
    )


def slots_of(instances: Int32[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], int]:
    """A small number for each Gaussian's instance, and how many there are.

    Instance numbers themselves serve, shifted by one, unless a file made them huge.
    """
    if len(instances) and instances.min() >= NO_ID and instances.max() <= len(instances):
        return instances + 1, int(instances.max()) + 2
    values, slots = np.unique(instances, return_inverse=True)
    return slots, len(values)


@dataclass(frozen=True, eq=False)
class _Namer:
    """What Gaussians are called: by the strategy's own labels, else by their codes."""

    scene: Scene
    match: Match
    passes: Any

    def names(self, column: int) -> int:
        """How many labels there are."""
        match = self.match
        return len(match.labels) if match.label is not None else len(match.named[column])

    def labels(self, column: int, rows: Int[np.ndarray, " some"]) -> Int32[np.ndarray, " some"]:
        """The label of some Gaussians, -1 for none."""
        if self.match.label is not None:
            return self.match.label[rows]
        code = self.scene.codes
        assert code is not None  # `hits_of` looked
        bits = code.weights.view(np.uint16)
        return self.passes.heaviest(code.ids, bits, half_values(), self.match.named[column], rows)

    def name(self, rows: Int[np.ndarray, " count"]) -> str:
        """Colours, then the most frequent label of each level: "red chair leg"."""
        book = self.scene.codebook
        assert book is not None
        words, own = list(self.match.prefix), self.match.label is not None
        for column in range(1 if own else len(self.match.named)):
            label = int(np.bincount(self.labels(column, rows) + 1).argmax()) - 1
            names = self.match.labels if own else book.names
            words.append(names[label] if label >= 0 else "")
        return " ".join(filter(None, words))


def _hit(
    scene: Scene, rows: Int[np.ndarray, " count"], score: float, name: str, passes: Any
) -> Hit:
    weights = scene.gaussians.opacities_of_meaning
    center, low, high = passes.extent(scene.gaussians.means, weights, rows)
    instance = max(int(_instances(scene)[rows[0]]), NO_ID)
    return Hit(name, instance, score, len(rows), center.astype(np.float32), low, high, rows)


def _instances(scene: Scene) -> Int32[np.ndarray, " n"]:
    return np.full(len(scene), NO_ID, np.int32) if scene.instances is None else scene.instances


def _passes(backend: Backend) -> Any:
    fast = backend == "numba" or (backend == "auto" and "numba" in sys.modules)
    return importlib.import_module(f"ffsplat.hits.{'loops' if fast else 'arrays'}")
