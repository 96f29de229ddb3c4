"""Some of the views of a set, and what is said of them."""

from dataclasses import replace

from ffsplat.prediction import Prediction
from ffsplat.types import Views


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
