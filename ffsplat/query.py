"""Find things in a scene by text: L row scores, K look-ups a Gaussian, matches per instance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, Int16, Int32

from ffsplat import codes
from ffsplat.codebook import LEXICON, rows_of_level
from ffsplat.color_names import BASIC_COLORS, nearest_basic_color
from ffsplat.errors import SceneFileError, UsageError
from ffsplat.text import LexiconSpace, Phrase, rows_under, text_space
from ffsplat.types import LEVELS, NO_ID, Codebook, Scene, SparseCode

LEXICON_THRESHOLD = 0.5
"""Most of the evidence of a Gaussian speaks for the phrase."""

COSINE_THRESHOLD = 0.25
"""A cosine of text and image embeddings that mostly means a match; LAION-5B keeps pairs of a
photo and its caption from 0.28 (arXiv 2210.08402), and parts of a photo score lower."""

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
class QueryResult:
    """The score of every Gaussian, the threshold that was used, and the matches in their order."""

    scores: Float32[np.ndarray, " n"]
    threshold: float
    hits: tuple[Hit, ...]


@dataclass(frozen=True, eq=False)
class _Match:
    """Scores before they are grouped; `named` marks per level the rows that give a hit its name."""

    scores: Float32[np.ndarray, " n"]
    named: tuple[Bool[np.ndarray, " rows"], ...]
    prefix: tuple[str, ...]
    whole: bool


def query(
    scene: Scene,
    text: str,
    *,
    threshold: float | None = None,
    space: str | None = None,
    level: str | None = None,
    max_hits: int = 20,
    min_count: int = 5,
) -> QueryResult:
    """Score every Gaussian against a text and list the matching instances, best supported first.

    In the `lexicon` space a score is the share of a Gaussian's evidence on the rows that the text
    names, level by level, and the product of the levels and colours where it names several ("red
    chair leg"). A colour is the share of the instance whose own colour is nearest to it. In any
    other space a score is the cosine of text and coded vector. A Gaussian matches from
    `threshold` on (0.5 in the lexicon, 0.25 for a cosine, unless given); matches of fewer than
    `min_count` Gaussians are dropped. `space` defaults to the lexicon where the codebook has it,
    `level` narrows to "whole" or "part".
    Raises SceneFileError if the scene has no codes; UnknownWord or UsageError for the text, and
    UsageError for a threshold that is not finite or a space that the codebook lacks.
    """
    code, codebook = _meaning(scene)
    if threshold is not None and not np.isfinite(threshold):
        raise UsageError(f"the threshold is {threshold}, not a number to compare with")
    chosen = _choose_space(codebook, space)
    if level is not None and level not in LEVELS[:2]:
        raise UsageError(f"unknown level {level!r}", "known are whole and part")
    if chosen == LEXICON:
        match = _match_lexicon(scene, LexiconSpace().parse(text), text, level)
        limit = LEXICON_THRESHOLD if threshold is None else threshold
    else:
        match = _match_cosine(code, codebook, chosen, text, level)
        limit = COSINE_THRESHOLD if threshold is None else threshold
    hits = _hits(scene, match, text, limit, min_count, max_hits)
    return QueryResult(match.scores, limit, hits)


def most_common(scene: Scene, n: int = 3) -> list[tuple[str, float]]:
    """The n most common whole things and their share of all evidence, weighted by opacity.

    Walls, floors and other structure are left out unless nothing else was seen.
    Raises SceneFileError if the scene has no codes.
    """
    code, codebook = _meaning(scene)
    rows = rows_of_level(codebook, "whole")
    evidence = code.weights * scene.gaussians.opacities_of_meaning[:, None]
    amounts = np.bincount(code.ids.ravel() + 1, evidence.ravel(), len(codebook) + 1)[1:]
    total = amounts[rows].sum()
    shares: dict[str, float] = {}
    for row in rows[amounts[rows] > 0]:
        name = codebook.names[row]
        shares[name] = shares.get(name, 0.0) + float(amounts[row] / total)
    structure = rows_under("structure")
    things = {name: share for name, share in shares.items() if name and name not in structure}
    return sorted((things or shares).items(), key=lambda item: (-item[1], item[0]))[:n]


def _meaning(scene: Scene) -> tuple[SparseCode, Codebook]:
    if scene.codes is None or scene.codebook is None:
        raise SceneFileError(
            "the scene says nothing about its things: it has no codes or no codebook",
            "keep the .codebook.safetensors file beside the PLY, or make the scene with ffsplat",
        )
    return scene.codes, scene.codebook


def _choose_space(codebook: Codebook, space: str | None) -> str:
    chosen = space or (LEXICON if LEXICON in codebook.spaces else next(iter(codebook.spaces), ""))
    if chosen not in codebook.spaces:
        raise UsageError(
            f"the scene has no text space {chosen!r}", f"it has {', '.join(codebook.spaces)}"
        )
    return chosen


def _match_lexicon(scene: Scene, phrase: Phrase, text: str, level: str | None) -> _Match:
    """Product over the levels of the phrase of the share of evidence on its rows."""
    code, codebook = _meaning(scene)
    levels = [name for name in LEVELS[:2] if name in phrase.rows and level in (None, name)]
    if not levels and level is not None:
        raise UsageError(f"{text!r} names nothing of level {level}", f"drop the level {level}")
    scores = np.ones(len(scene), np.float32)
    named = []
    for name in levels:
        wanted = _rows_of_space(codebook)[:, list(phrase.rows[name])].any(axis=1)
        at_level = codebook.levels == LEVELS.index(name)
        named.append(wanted & at_level)
        scores *= _share(code, wanted & at_level, at_level)
    if phrase.colors:
        scores *= _color_share(scene, scores, phrase.colors)
    if not named:
        named.append(codebook.levels == LEVELS.index("whole"))
    return _Match(scores, tuple(named), phrase.colors, whole=levels == ["whole"])


def _rows_of_space(codebook: Codebook) -> Bool[np.ndarray, "rows lexicon"]:
    """Which lexicon row each codebook row is; an older codebook knows fewer lexicon rows."""
    known = codebook.spaces[LEXICON]
    size = len(LexiconSpace().encode([]).T)
    if known.shape[1] > size:
        raise SceneFileError(
            f"the codebook has {known.shape[1]} lexicon rows, this version {size}",
            "the scene was made by a newer ffsplat",
        )
    rows = np.zeros((len(codebook), size), bool)
    rows[:, : known.shape[1]] = known > 0
    return rows


def _share(
    code: SparseCode, wanted: Bool[np.ndarray, " rows"], level: Bool[np.ndarray, " rows"]
) -> Float32[np.ndarray, " n"]:
    """The share of each code's weight at a level that lies on the wanted rows; 0 without any."""
    found, total = codes.score(code, np.stack([wanted, level], axis=1).astype(np.float32)).T
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)


def _color_share(
    scene: Scene, scores: Float32[np.ndarray, " n"], colors: Sequence[str]
) -> Float32[np.ndarray, " n"]:
    """1 where a Gaussian's colour is one of these, else 0; in an instance the mean over it.

    The mean is weighted by the score so far, so that the cushion does not colour the chair leg.
    """
    wanted = np.isin(BASIC_COLORS, colors)
    own = wanted[nearest_basic_color(scene.gaussians.colors)].astype(np.float32)
    if scene.instances is None:
        return own
    slots, count = _slots(scene.instances)
    weight = np.bincount(slots, scores, count)
    mean = np.bincount(slots, scores * own, count) / np.maximum(weight, 1e-12)
    return np.where(scene.instances < 0, own, mean[slots]).astype(np.float32)


def _match_cosine(
    code: SparseCode, codebook: Codebook, space: str, text: str, level: str | None
) -> _Match:
    """Cosine of the text and the coded vector, of which only one level counts if it is given."""
    vector = text_space(space).encode([text])[0]
    embeddings = codebook.spaces[space].astype(np.float32)
    if embeddings.shape[1] != len(vector):
        raise SceneFileError(
            f"rows of space {space!r} have {embeddings.shape[1]} numbers, its texts {len(vector)}"
        )
    counted = np.ones(len(codebook), bool)
    if level is not None:
        counted = codebook.levels == LEVELS.index(level)
        code = codes.keep_rows(code, counted)
    row_scores = embeddings @ vector
    if level is not None or space != next(iter(codebook.spaces)):
        norms = codes.norm_in(code, embeddings).astype(np.float16)
        code = SparseCode(code.ids, code.weights, norms)
    return _Match(codes.cosine(code, row_scores), (counted,), (), whole=level != "part")


def _hits(
    scene: Scene, match: _Match, text: str, threshold: float, min_count: int, max_hits: int
) -> tuple[Hit, ...]:
    """Matching Gaussians in groups: one an instance, and without instance one a name."""
    code, codebook = _meaning(scene)
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
    match: _Match,
    rows: Int[np.ndarray, " hits"],
    groups: Sequence[Int[np.ndarray, " _"]],
    min_count: int,
) -> dict[int, float]:
    """The score of each group that has enough Gaussians, by its index."""
    instances = _instances(scene)
    slots, count = _slots(instances)
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
    match: _Match,
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


def _slots(instances: Int32[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], int]:
    """A small number for each Gaussian's instance, and how many there are.

    Instance numbers themselves serve, shifted by one, unless a file made them huge.
    """
    if len(instances) and instances.min() >= NO_ID and instances.max() <= len(instances):
        return instances + 1, int(instances.max()) + 2
    values, slots = np.unique(instances, return_inverse=True)
    return slots, len(values)
