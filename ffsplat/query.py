"""Find things in a scene by text: L row scores, K look-ups a Gaussian, matches per instance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from ffsplat import codes
from ffsplat.clip import OPEN_CLIP
from ffsplat.codebook import LEXICON, rows_of_level
from ffsplat.color_names import BASIC_COLORS, nearest_basic_color
from ffsplat.embeddings import TextEmbedding
from ffsplat.errors import SceneFileError, UsageError
from ffsplat.hits import Hit, Match, hits_of, slots_of
from ffsplat.text import (
    LexiconSpace,
    Phrase,
    TextSpace,
    add_text_space,
    embed,
    rows_under,
    text_space,
)
from ffsplat.types import LEVELS, Codebook, Scene, SparseCode

LEXICON_THRESHOLD = 0.5
"""Most of the evidence of a Gaussian speaks for the phrase."""

COSINE_THRESHOLD = 0.25
"""A cosine of text and image embeddings that mostly means a match; LAION-5B keeps pairs of a
photo and its caption from 0.28 (arXiv 2210.08402), and parts of a photo score lower."""

RELEVANCY_THRESHOLD = 0.5
"""A text that is nearer than every canonical phrase."""

TEMPERATURE = 10.0
"""Factor on cosines before they become a relevancy, as in the code of LERF and its successors."""


@dataclass(frozen=True, eq=False)
class QueryResult:
    """The score of every Gaussian, the threshold that was used, and the matches in their order."""

    scores: Float32[np.ndarray, " n"]
    threshold: float
    hits: tuple[Hit, ...]


def query(
    scene: Scene,
    text: str | TextEmbedding,
    *,
    threshold: float | None = None,
    space: str | TextSpace | None = None,
    level: str | None = None,
    max_hits: int = 20,
    min_count: int = 5,
) -> QueryResult:
    """Score every Gaussian against a text and list the matching instances, best supported first.

    In the `lexicon` space a score is the share of a Gaussian's evidence on the rows that the text
    names, level by level, and the product of the levels and colours where it names several ("red
    chair leg"). A colour is the share of the instance whose own colour is nearest to it. In an
    `open_clip` space a score is the `relevancy` of the text, in any other, and for a text that was
    embedded without canonical phrases, the cosine of text and coded vector. A Gaussian matches
    from `threshold` on (0.5, and 0.25 for a cosine, unless given); matches of fewer than
    `min_count` Gaussians are dropped.

    `text` may be embedded already: then nothing is loaded for it. `space` defaults to that of the
    text, else to the lexicon where the codebook has it; an `open_clip` space that the codebook
    lacks is made of the names of its rows. `level` narrows to "whole" or "part".
    Raises SceneFileError if the scene has no codes; UnknownWord or UsageError for the text, and
    UsageError for a threshold that is not finite or a space that the codebook lacks.
    """
    if threshold is not None and not np.isfinite(threshold):
        raise UsageError(f"the threshold is {threshold}, not a number to compare with")
    if level is not None and level not in LEVELS[:2]:
        raise UsageError(f"unknown level {level!r}", "known are whole and part")
    if isinstance(text, TextEmbedding):
        label, match = text.text, _match_embedding(scene, text, space, level)
    elif (chosen := choose_space(scene, space)).name == LEXICON:
        label, match = text, _match_lexicon(scene, LexiconSpace().parse(text), text, level)
    else:
        label, match = text, _match_embedding(scene, embed(text, chosen), chosen, level)
    limit = match.threshold if threshold is None else threshold
    return QueryResult(
        match.scores, limit, hits_of(scene, match, label, limit, min_count, max_hits)
    )


def choose_space(scene: Scene, space: str | TextSpace | None) -> TextSpace:
    """The text space of a query: the one that is named, else the lexicon, else the first.

    Raises UsageError for a space that the codebook lacks and that cannot be made of names, and
    SceneFileError if the scene has no codes.
    """
    spaces = _meaning(scene)[1].spaces
    chosen = space or (LEXICON if LEXICON in spaces else next(iter(spaces), ""))
    name = chosen if isinstance(chosen, str) else chosen.name
    if name not in spaces and not name.startswith(OPEN_CLIP):
        raise UsageError(f"the scene has no text space {name!r}", f"it has {', '.join(spaces)}")
    return text_space(chosen) if isinstance(chosen, str) else chosen


def with_space(codebook: Codebook, space: str | TextSpace) -> Codebook:
    """The codebook with a text space, made of the names of its rows where it lacks it.

    Raises as `text_space` and `add_text_space`.
    """
    name = space if isinstance(space, str) else space.name
    if name in codebook.spaces:
        return codebook
    return add_text_space(codebook, text_space(space) if isinstance(space, str) else space)


def relevancy(
    positive: Float32[np.ndarray, " n"], canon: Float32[np.ndarray, "n c"]
) -> Float32[np.ndarray, " n"]:
    """How much nearer a text is than the canonical phrases: 0 to 1, 0.5 where it is equally near.

    The least, over the phrases, of the softmax of two cosines at `TEMPERATURE`, which is
    sigmoid(TEMPERATURE * (positive - largest canon)). Source: Kerr et al., "LERF: Language Embedded
    Radiance Fields", 2023, section 3.4.
    """
    gap = positive - canon.max(axis=1)
    return (1 / (1 + np.exp(-TEMPERATURE * gap))).astype(np.float32)


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


def _space_of(
    codebook: Codebook, embedding: TextEmbedding, space: str | TextSpace | None
) -> str | TextSpace:
    """The space that an embedded text is compared in; refuse one that it was not made for."""
    wanted = space.name if isinstance(space, TextSpace) else space
    others = [name for name in codebook.spaces if name != LEXICON]
    found = embedding.space or wanted or (others[0] if len(others) == 1 else "")
    if not found:
        raise UsageError(
            "the file does not say in which space the text is embedded",
            f"--space names it; the scene has {', '.join(codebook.spaces)}",
        )
    if wanted not in (None, found):
        raise UsageError(f"the text is embedded in {found!r}, not in {wanted!r}")
    return found if space is None or isinstance(space, str) else space


def _match_lexicon(scene: Scene, phrase: Phrase, text: str, level: str | None) -> Match:
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
    whole = levels == ["whole"]
    return Match(scores, tuple(named), phrase.colors, whole, LEXICON_THRESHOLD)


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
    slots, count = slots_of(scene.instances)
    weight = np.bincount(slots, scores, count)
    mean = np.bincount(slots, scores * own, count) / np.maximum(weight, 1e-12)
    return np.where(scene.instances < 0, own, mean[slots]).astype(np.float32)


def _match_embedding(
    scene: Scene, text: TextEmbedding, space: str | TextSpace | None, level: str | None
) -> Match:
    """Cosine of text and coded vector, or relevancy; only one level counts if it is given."""
    code, codebook = _meaning(scene)
    chosen = _space_of(codebook, text, space)
    codebook = with_space(codebook, chosen)
    name = chosen if isinstance(chosen, str) else chosen.name
    embeddings = codebook.spaces[name].astype(np.float32)
    if embeddings.shape[1] != len(text.vector):
        raise SceneFileError(
            f"rows of space {name!r} have {embeddings.shape[1]} numbers, its texts "
            f"{len(text.vector)}"
        )
    counted = np.ones(len(codebook), bool)
    if level is not None:
        counted = codebook.levels == LEVELS.index(level)
        code = codes.keep_rows(code, counted)
    if level is not None or name != next(iter(codebook.spaces)):
        norms = codes.norm_in(code, embeddings).astype(np.float16)
        code = SparseCode(code.ids, code.weights, norms)
    cosines = codes.cosine(code, embeddings @ np.vstack([text.vector, text.canon]).T)
    scores, threshold = cosines[:, 0], COSINE_THRESHOLD
    if len(text.canon):
        known = code.norms > 0  # without evidence every cosine is 0, which is no half match
        scores = np.where(known, relevancy(scores, cosines[:, 1:]), 0).astype(np.float32)
        threshold = RELEVANCY_THRESHOLD
    return Match(scores, (counted,), (), level != "part", threshold)
