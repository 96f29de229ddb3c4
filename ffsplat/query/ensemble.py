"""2-D and 3-D evidence together: what photos say of a Gaussian and what its surroundings say.

Source: EmbodiedSplat (arXiv 2603.04254): the text is told apart from other labels by what each
Gaussian collected in the photos, and again by a 3-D network, and both probabilities are joined.
Here the 3-D side is the mean over the ten nearest Gaussians (`grouping.smoothing`), as there is no
network that would have to be trained; the formulas are those of its published code.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ffsplat import codes
from ffsplat.codebook import LEXICON
from ffsplat.errors import UsageError
from ffsplat.hits import Match
from ffsplat.query.labels import SCALE, SHARE_THRESHOLD, row_scores, softmax
from ffsplat.query.options import check_positive
from ffsplat.query.question import Question
from ffsplat.query.surroundings import surroundings
from ffsplat.text import CANON
from ffsplat.types import NO_ID


@dataclass(frozen=True)
class Options:
    """The labels that the text is told apart from, and how two probabilities become one.

    `exponent` is that of the larger: 0 takes the smaller of both, as the code of EmbodiedSplat does
    on ScanNet, 1 the larger, as it does on ScanNet200 and ScanNet++, and one half their geometric
    mean. `scale` is the factor before the softmax. `unit` compares cosines with what photos say;
    without it inner products, as in that code, for which views that disagree are nearer to no
    label. The surroundings are compared by cosines, as the 3-D network is there.
    """

    labels: tuple[str, ...] = CANON
    exponent: float = 0.0
    scale: float = SCALE
    unit: bool = True

    def __post_init__(self):
        if not 0 <= self.exponent <= 1:
            raise UsageError(f"the exponent is between 0 and 1, not {self.exponent}")
        check_positive("scale", self.scale)


def match(question: Question, options: Options) -> Match:
    """The joined probability of the text among the labels.

    Raises UsageError for fewer than two labels and without SciPy; in the lexicon, which does not
    know canonical phrases, labels must be given.
    """
    text = question.label.strip()
    if question.space_name == LEXICON and options.labels == CANON:
        raise UsageError(
            "the lexicon has no canonical phrases to tell a text apart from",
            "-O labels=table,lamp names things instead; in a query also --labels table,lamp",
        )
    labels = options.labels if text in options.labels else (text, *options.labels)
    rows = row_scores(question, labels)
    compare = codes.cosine if options.unit else codes.score
    photos = softmax(np.float32(options.scale) * compare(question.code, rows))
    around = surroundings(question)
    nearby = softmax(np.float32(options.scale) * codes.cosine(around, rows))
    joined = ensemble(photos, nearby, options.exponent)
    known = question.code.norms > 0
    label = np.where(known, joined.argmax(axis=1), NO_ID).astype(np.int32)
    scores = np.where(known, joined[:, labels.index(text)], 0).astype(np.float32)
    whole = question.of_things
    return Match(scores, (question.counted,), (), whole, SHARE_THRESHOLD, labels, label)


def ensemble(
    first: Float32[np.ndarray, "*n"], second: Float32[np.ndarray, "*n"], exponent: float = 0.0
) -> Float32[np.ndarray, "*n"]:
    """max^exponent min^(1 - exponent) of two probabilities, one by one."""
    large, small = np.maximum(first, second), np.minimum(first, second)
    return large**exponent * small ** (1 - exponent)
