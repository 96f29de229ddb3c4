"""What the neighbourhood of each Gaussian says, in the space of a text."""

from weakref import WeakKeyDictionary

from ffsplat.grouping.smoothing import smoothed_codes
from ffsplat.query.question import Question, meaning
from ffsplat.query.scoring import in_space
from ffsplat.types import Codebook, SparseCode

_placed: WeakKeyDictionary[SparseCode, tuple[Codebook, str, SparseCode]] = WeakKeyDictionary()
"""The last answer for smoothed codes that are still in use: every text asks for the same."""


def surroundings(question: Question) -> SparseCode:
    """The question's codes, smoothed over ten neighbours, with lengths in the text's space.

    Kept as long as the scene's codes are in use, but for a space that was made of names for this
    question alone. Raises UsageError without SciPy.
    """
    around = smoothed_codes(question.scene, question.code)
    codebook, space = meaning(question.scene)[1], question.space_name
    known = _placed.get(around)
    if known is not None and known[0] is codebook and known[1] == space:
        return known[2]
    found = in_space(around, question.embeddings)
    if space in codebook.spaces:
        _placed[around] = codebook, space, found
    return found
