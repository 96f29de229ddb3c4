"""How much any codes speak for a text: what strategies that work on regions or levels ask."""

from jaxtyping import Float32
from numpy import ndarray

from ffsplat import codes
from ffsplat.codebook import LEXICON
from ffsplat.query import canonical, lexicon
from ffsplat.query.cosine import COSINE_THRESHOLD
from ffsplat.query.question import Question
from ffsplat.types import SparseCode


def evidence(question: Question, code: SparseCode) -> tuple[Float32[ndarray, " n"], float]:
    """The score of each code by the usual strategy of its space, and the usual threshold.

    `code` is over the question's codebook, with lengths in its space; colours are left out.
    """
    if question.space_name == LEXICON and isinstance(question.text, str):
        named, _ = lexicon.asked_rows(question)
        return lexicon.evidence(question, code, named), lexicon.LEXICON_THRESHOLD
    if len(question.embedding.canon):
        scores = canonical.scores_of(question, code, canonical.Options())
        return scores, canonical.RELEVANCY_THRESHOLD
    rows = question.row_scores(question.embedding.vector[None])
    return codes.cosine(code, rows)[:, 0], COSINE_THRESHOLD
