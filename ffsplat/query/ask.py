"""Find things in a scene by text: score every Gaussian by a strategy, then group what matches."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from ffsplat.codebook import LEXICON
from ffsplat.embeddings import TextEmbedding
from ffsplat.errors import UnknownWord, UsageError
from ffsplat.hits import Hit, hits_of
from ffsplat.query.phrases import refers
from ffsplat.query.question import Question
from ffsplat.query.strategies import strategy_named
from ffsplat.text import TextSpace
from ffsplat.types import Scene


@dataclass(frozen=True, eq=False)
class QueryResult:
    """What every strategy answers with.

    `scores` has one number a Gaussian, which matches from `threshold` on; `hits` are the matches,
    best supported first; `strategy` is the name of the one that answered. A strategy that tells
    labels apart also says the `label` of each Gaussian, an index into `labels`, -1 for none.
    `notes` are sentences on what was assumed, such as the viewpoint that "left" is meant from.
    """

    scores: Float32[np.ndarray, " n"]
    threshold: float
    hits: tuple[Hit, ...]
    strategy: str = ""
    labels: tuple[str, ...] = ()
    label: Int32[np.ndarray, " n"] | None = None
    notes: tuple[str, ...] = ()


def query(
    scene: Scene,
    text: str | TextEmbedding,
    *,
    strategy: str | None = None,
    threshold: float | None = None,
    space: str | TextSpace | None = None,
    level: str | None = None,
    max_hits: int = 20,
    min_count: int = 5,
    **options: Any,
) -> QueryResult:
    """Score every Gaussian against a text and list the matching instances, best supported first.

    `strategy` is a name in `STRATEGIES`; `options` are the fields of its options. Without one it
    is "lexicon" in the lexicon, "relevancy" in an `open_clip` space, and "cosine" in any other and
    for a text that was embedded without canonical phrases. A Gaussian matches from `threshold` on,
    that of the strategy unless given; matches of fewer than `min_count` Gaussians are dropped.

    `text` may be embedded already: then nothing is loaded for it. `space` defaults to that of the
    text, else to the lexicon where the codebook has it; an `open_clip` space that the codebook
    lacks is made of the names of its rows. `level` narrows to one of `ASKED_LEVELS`.
    Raises SceneFileError if the scene has no codes; UnknownWord or UsageError for the text, and
    UsageError for a threshold that is not finite, a space that the codebook lacks, and a strategy
    or option that does not exist.
    """
    if threshold is not None and not np.isfinite(threshold):
        raise UsageError(f"the threshold is {threshold}, not a number to compare with")
    question = Question(scene, text, space, level)
    chosen = strategy_named(strategy or usual_strategy(question))
    try:
        match = chosen.match(question, chosen.options(options))
    except UnknownWord as error:
        if chosen.name == "refer" or not refers(question.label):
            raise
        hint = "--strategy refer understands where things lie"
        raise UnknownWord(str(error), hint) from error
    limit = match.threshold if threshold is None else threshold
    hits = hits_of(scene, match, question.label, limit, min_count, max_hits)
    return QueryResult(
        match.scores, limit, hits, chosen.name, match.labels, match.label, match.notes
    )


def usual_strategy(question: Question) -> str:
    """The name of the strategy that answers where none is chosen; see `query`."""
    if isinstance(question.text, str) and question.space_name == LEXICON:
        return "lexicon"
    return "relevancy" if len(question.embedding.canon) else "cosine"
