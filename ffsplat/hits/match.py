"""What matches a query: Gaussians grouped into instances, ranked by score and support."""

import importlib
import sys
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32

from ffsplat.codes import half_values
from ffsplat.types import NO_ID, Codebook, Scene

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
    code = scene.codes.ids, scene.codes.weights.view(np.uint16), half_values()
    passes, instances = _passes(backend), _instances(scene)
    slots, count = slots_of(instances)
    groups = slots.astype(np.int32)  # of its own: the passes write into it
    bare = np.flatnonzero(instances < 0)
    own = None if match.label is None else match.label[bare]
    called = passes.heaviest(*code, match.named[0], bare) if own is None else own
    groups[bare] = count + 1 + called
    names = len(match.named[0] if own is None else match.labels)
    limit = np.float32(threshold)
    sums = _Sums(*passes.sums(match.scores, limit, groups, count + 1 + names))
    chosen, scores = _ranked(sums, count if match.whole else 0, len(scene), max(min_count, 1))
    chosen, scores = chosen[:max_hits], scores[:max_hits]
    place = np.full(len(sums.sizes), NO_ID, np.int64)
    place[chosen] = np.arange(len(chosen))
    starts = np.concatenate([[0], np.cumsum(sums.counts[chosen])]).astype(np.int64)
    marked = np.stack(match.named) if own is None else np.zeros((0, names), bool)
    gaussians = scene.gaussians
    rows, centers, low, high, labels = passes.gather(
        groups, place, starts, gaussians.means, gaussians.opacities_of_meaning, *code, marked
    )
    if match.label is not None:
        labels = match.label[rows][None]
    hits = []
    for i, score in enumerate(scores.tolist()):
        part = slice(starts[i], starts[i + 1])
        name = _name(match, scene.codebook, labels[:, part]) or text
        instance = max(int(instances[rows[starts[i]]]), NO_ID)
        center, size = centers[i].astype(np.float32), int(starts[i + 1] - starts[i])
        hits.append(Hit(name, instance, score, size, center, low[i], high[i], rows[part]))
    return tuple(hits)


class _Sums(NamedTuple):
    """Size and total score of each group, and the same of its Gaussians that match."""

    sizes: Int[np.ndarray, " g"]
    totals: Float[np.ndarray, " g"]
    counts: Int[np.ndarray, " g"]
    found: Float[np.ndarray, " g"]


def _ranked(
    sums: _Sums, voting: int, scene: int, min_count: int
) -> tuple[Int[np.ndarray, " some"], Float[np.ndarray, " some"]]:
    """Groups that are matches, best first, and their scores; the first `voting` groups vote."""
    voted = np.arange(len(sums.sizes)) < voting
    enough = ~voted | (sums.counts >= MIN_SHARE * sums.sizes)
    groups = np.flatnonzero((sums.counts >= min_count) & enough)
    totals = np.where(voted, sums.totals, sums.found)[groups]
    scores = totals / np.where(voted, sums.sizes, sums.counts)[groups]
    support = sums.counts[groups] / (sums.counts[groups] + SUPPORT * scene)
    order = np.argsort(-scores * support, kind="stable")
    return groups[order], scores[order]


def _name(match: Match, book: Codebook, labels: Int32[np.ndarray, "columns count"]) -> str:
    """Colours, then the most frequent label of each level: "red chair leg"."""
    words, names = list(match.prefix), book.names if match.label is None else match.labels
    for column in labels:
        label = int(np.bincount(column + 1).argmax()) - 1
        words.append(names[label] if label >= 0 else "")
    return " ".join(filter(None, words))


def slots_of(instances: Int32[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], int]:
    """A small number for each Gaussian's instance, and how many there are.

    Instance numbers themselves serve, shifted by one, unless a file made them huge.
    """
    if len(instances) and instances.min() >= NO_ID and instances.max() <= len(instances):
        return instances + 1, int(instances.max()) + 2
    values, slots = np.unique(instances, return_inverse=True)
    return slots, len(values)


def _instances(scene: Scene) -> Int32[np.ndarray, " n"]:
    return np.full(len(scene), NO_ID, np.int32) if scene.instances is None else scene.instances


def _passes(backend: Backend) -> Any:
    fast = backend == "numba" or (backend == "auto" and "numba" in sys.modules)
    return importlib.import_module(f"ffsplat.hits.{'loops' if fast else 'arrays'}")
