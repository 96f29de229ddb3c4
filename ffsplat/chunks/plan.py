"""Which views go through the network together when there are more than one pass can hold."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from ffsplat.errors import UsageError
from ffsplat.prediction import Prediction
from ffsplat.types import Views

SHARED_PART = 4
"""Unless told otherwise, a pass shares one view in this many with the one before it."""


def plan(views: int, chunk_views: int, overlap: int | None = None) -> list[range]:
    """Rows of the views of each pass: about equally many, `overlap` of them in the next pass too.

    Views are taken as they come, so neighbours should show the same things, as they do in the
    order of capture. No pass has more than `chunk_views`, and together they have as few as that
    allows. `overlap` is a quarter of `chunk_views` unless given. Raises UsageError if a pass would
    bring no new view, or if it shared none with the one before it.
    """
    if views <= chunk_views:
        return [range(views)]
    overlap = max(1, chunk_views // SHARED_PART) if overlap is None else overlap
    if not 0 < overlap < chunk_views:
        raise UsageError(
            f"passes of {chunk_views} views cannot share {overlap}", "take more views a pass"
        )
    passes = -(-(views - overlap) // (chunk_views - overlap))
    starts = np.linspace(0, views - overlap, passes + 1).round().astype(int).tolist()
    return [range(a, b + overlap) for a, b in pairwise(starts)]


def take_views(views: Views, rows: list[int] | range) -> Views:
    """Some of the views, on the same canvas."""
    rows = list(rows)
    return Views(
        views.pixels[rows],
        views.valid[rows],
        views.intrinsics[rows],
        tuple(views.sources[row] for row in rows),
    )


def take_prediction(prediction: Prediction, rows: list[int] | range) -> Prediction:
    """What a network said of some of the views, given that it saw all of them.

    Views that stand side by side are not copied.
    """
    rows = list(rows)
    together = bool(rows) and rows == list(range(rows[0], rows[-1] + 1))
    which = slice(rows[0], rows[-1] + 1) if together else rows
    chosen = {
        name: value[:, which]
        for name, value in vars(prediction).items()
        if value is not None and name != "scale"
    }
    return replace(prediction, **chosen)
