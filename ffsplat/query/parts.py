"""Part in whole: find the thing, then the part among what belongs to it (FMLGS).

"FMLGS: Fast Multilevel Language Embedded Gaussians for Part-level Interactive Agents" (arXiv
2504.08581): a part alone is a bag of words, so that the leg of a bear finds that of a chair. Its
embedding is moved towards its whole, or the whole is found first.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int

from ffsplat.codebook import LEXICON
from ffsplat.errors import UsageError
from ffsplat.hits import Match
from ffsplat.query.evidence import evidence
from ffsplat.query.question import Question
from ffsplat.query.regions import instance_regions
from ffsplat.query.scoring import in_space
from ffsplat.text import LexiconSpace, TextSpace
from ffsplat.types import LEVELS, NO_ID, SparseCode

_OF_WHOLE = re.compile(
    r"(?P<part>.+?)\s+(?:of|on)\s+(?:an?\s+|the\s+)?(?P<whole>.+)", re.IGNORECASE
)
_WHOLES_PART = re.compile(r"(?P<whole>.+?)(?:'s|\u2019s)\s+(?P<part>.+)", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """How the whole helps to find the part.

    `steps` "two" finds the whole first, by the mean over an instance, and then the part among its
    Gaussians. "one" compares the text with the part moved towards its whole, (1 - weight) whole +
    weight part, both of length 1. `whole` and `part` say what to look for in place of what the text
    says of either; with one of them, a text that does not name both is the other.
    """

    steps: Literal["two", "one"] = "two"
    weight: float = 0.5
    whole: str = ""
    part: str = ""

    def __post_init__(self):
        if not 0 <= self.weight <= 1:
            raise UsageError(f"the weight of the part is {self.weight}, not between 0 and 1")


def match(question: Question, options: Options) -> Match:
    """The score of the part where the whole is, or that of the text for the part in its whole.

    Raises UsageError for a text that does not name both.
    """
    if options.steps == "one":
        if question.space_name == LEXICON:
            raise UsageError("words of the lexicon are no vectors to move", "steps=two")
        asked, code = moved(question, options.weight)
        scores, limit = evidence(asked, code)
        return Match(scores, _named(question), (), False, limit)
    whole, part = _both(question, options)
    inside = _inside(whole)
    scores, limit = evidence(part, part.code)
    return Match(np.where(inside, scores, np.float32(0)), _named(question), (), False, limit)


def deviate(
    rows: Float32[np.ndarray, "rows d"], parents: Int[np.ndarray, " rows"], weight: float
) -> Float32[np.ndarray, "rows d"]:
    """Rows with a parent moved towards it, (1 - weight) parent + weight row, to length 1.

    Source: FMLGS, semantic deviation.
    """
    mixed = (1 - weight) * rows[parents] + weight * rows
    mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), np.float32(1e-12))
    return np.where((parents >= 0)[:, None], mixed, rows).astype(np.float32)


def moved(question: Question, weight: float) -> tuple[Question, SparseCode]:
    """The question and its codes, with each part moved towards its whole.

    Where the codebook knows the parents of its parts, its rows move (`deviate`). Where it knows
    none, the whole is what the other pairs of the same code say: the pairs of both levels are
    scaled so that either vector has length 1. A code with one level alone stays.
    """
    book, code = question.codebook, question.code
    if (book.parents >= 0).any():
        rows = deviate(question.embeddings, book.parents, weight).astype(np.float16)
        book = replace(book, spaces={**book.spaces, question.space_name: rows})
        asked = replace(question, scene=replace(question.scene, codebook=book))
        return asked, in_space(code, asked.embeddings, book.levels == LEVELS.index("part"))
    levels = np.append(book.levels, np.int8(-1))[code.ids]
    alone = [in_space(code, question.embeddings, book.levels == i) for i in (0, 1)]
    lengths = [one.norms.astype(np.float32) for one in alone]
    both = (lengths[0] > 0) & (lengths[1] > 0)
    factors = np.zeros(code.ids.shape, np.float32)
    for level, share in ((0, 1 - weight), (1, weight)):
        factor = np.where(both, share, 1) / np.where(lengths[level] > 0, lengths[level], 1)
        factors[levels == level] = np.broadcast_to(factor[:, None], levels.shape)[levels == level]
    weights = (code.weights * factors).astype(np.float16)
    ids = np.where(weights > 0, code.ids, np.int16(NO_ID))
    return question, in_space(SparseCode(ids, weights, code.norms), question.embeddings)


def _both(question: Question, options: Options) -> tuple[Question, Question]:
    """The question for the whole, at its level, and that for the part."""
    text, space = question.label.strip(), question.encoder
    given = {name: words for name in LEVELS[:2] if (words := getattr(options, name))}
    words = given if len(given) == 2 else {**_said(text, space), **given}
    if given:
        words = {**dict.fromkeys(LEVELS[:2], text), **words}
    if len(words) < 2:
        raise UsageError(
            f"{text!r} does not name a part and its whole", 'ask such as "leg of the chair"'
        )
    whole, part = (Question(question.scene, words[n], space, n) for n in LEVELS[:2])
    return whole, part


def _said(text: str, space: TextSpace) -> dict[str, str]:
    """What a text says of the whole and of the part; in the lexicon perhaps of one alone."""
    if found := _OF_WHOLE.fullmatch(text) or _WHOLES_PART.fullmatch(text):
        return found.groupdict()
    rows = LexiconSpace().parse(text).rows if space.name == LEXICON else {}
    return {level: text for level in LEVELS[:2] if level in rows}


def _inside(whole: Question) -> Bool[np.ndarray, " n"]:
    """Gaussians of the instances that are the whole, and those without instance that are."""
    regions = instance_regions(whole)
    scores, limit = evidence(whole, regions.code)
    own, _ = evidence(whole, whole.code)
    voted = np.append(scores, np.float32(0))[regions.of]
    return np.where(regions.of >= 0, voted, own) >= limit


def _named(question: Question) -> tuple[Bool[np.ndarray, " rows"], ...]:
    return tuple(question.codebook.levels == level for level in (0, 1))
