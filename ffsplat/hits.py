"""What matches a query: Gaussians grouped into instances, ranked by score and support."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, Int16, Int32

from ffsplat.types import NO_ID, Codebook, Scene, SparseCode

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
    """

    scores: Float32[np.ndarray, " n"]
    named: tuple[Bool[np.ndarray, " rows"], ...]
    prefix: tuple[str, ...]
    whole: bool
    threshold: float
    labels: tuple[str, ...] = ()
    label: Int32[np.ndarray, " n"] | None = None


def hits_of(
    scene: Scene, match: Match, text: str, threshold: float, min_count: int, max_hits: int
) -> tuple[Hit, ...]:
    """Matching Gaussians in groups: one an instance, and without instance one a name."""
    code, codebook = scene.codes, scene.codebook
    if code is None or codebook is None:
        return ()
    rows = np.flatnonzero((match.scores >= threshold) & (match.scores > 0))
    labels = [_labels(code[rows], mask) for mask in match.named]
    instances = _instances(scene)[rows]
    keys = np.where(instances >= 0, instances, -2 - labels[0].astype(np.int32))
    order = np.argsort(keys, kind="stable")
    starts = np.unique(keys[order], return_index=True)[1]
    groups = np.split(order, starts[1:]) if len(rows) else []
    scores = _group_scores(scene, match, rows, groups, min_count)
    few = SUPPORT * len(scene)

    def rank(g: int) -> tuple[float, int]:
        return -scores[g] * len(groups[g]) / (len(groups[g]) + few), g

    ranking = sorted(scores, key=rank)[:max_hits]
    return tuple(
        _hit(scene, rows[groups[g]], scores[g], _name(codebook, match, labels, groups[g]) or text)
        for g in ranking
    )


def _group_scores(
    scene: Scene,
    match: Match,
    rows: Int[np.ndarray, " hits"],
    groups: Sequence[Int[np.ndarray, " _"]],
    min_count: int,
) -> dict[int, float]:
    """The score of each group that has enough Gaussians, by its index."""
    instances = _instances(scene)
    slots, count = slots_of(instances)
    sizes = np.bincount(slots, minlength=count)
    sums = np.bincount(slots, match.scores, count)
    scores = {}
    for g, members in enumerate(groups):
        first = rows[members[0]]
        voted = match.whole and instances[first] >= 0
        size = sizes[slots[first]]
        if len(members) < max(min_count, 1) or (voted and len(members) < MIN_SHARE * size):
            continue
        mean = sums[slots[first]] / size if voted else match.scores[rows[members]].mean()
        scores[g] = float(mean)
    return scores


def _hit(scene: Scene, rows: Int[np.ndarray, " count"], score: float, name: str) -> Hit:
    means = scene.gaussians.means[rows]
    opacities = scene.gaussians.opacities_of_meaning[rows]
    weights = opacities if opacities.sum() > 0 else np.ones_like(opacities)
    return Hit(
        name=name,
        instance=max(int(_instances(scene)[rows[0]]), NO_ID),
        score=score,
        count=len(rows),
        center=np.average(means.astype(np.float64), axis=0, weights=weights).astype(np.float32),
        minimum=means.min(axis=0),
        maximum=means.max(axis=0),
        rows=rows,
    )


def _labels(code: SparseCode, mask: Bool[np.ndarray, " rows"]) -> Int16[np.ndarray, " n"]:
    """The heaviest of the marked rows of each code, or -1."""
    weights = np.where(np.append(mask, False)[code.ids], code.weights, 0)
    best = weights.argmax(axis=1)[:, None]
    ids = np.take_along_axis(code.ids, best, axis=1)[:, 0]
    return np.where(weights.max(axis=1) > 0, ids, NO_ID).astype(np.int16)


def _name(
    codebook: Codebook,
    match: Match,
    labels: Sequence[Int16[np.ndarray, " hits"]],
    members: Int[np.ndarray, " count"],
) -> str:
    """Colours, then the most frequent label of each level: "red chair leg"."""
    words = list(match.prefix)
    for column in labels:
        row = int(np.bincount(column[members] + 1).argmax()) - 1
        words.append(codebook.names[row] if row >= 0 else "")
    return " ".join(filter(None, words))


def _instances(scene: Scene) -> Int32[np.ndarray, " n"]:
    return np.full(len(scene), NO_ID, np.int32) if scene.instances is None else scene.instances


def slots_of(instances: Int32[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], int]:
    """A small number for each Gaussian's instance, and how many there are.

    Instance numbers themselves serve, shifted by one, unless a file made them huge.
    """
    if len(instances) and instances.min() >= NO_ID and instances.max() <= len(instances):
        return instances + 1, int(instances.max()) + 2
    values, slots = np.unique(instances, return_inverse=True)
    return slots, len(values)
