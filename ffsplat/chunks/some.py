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

    Views that stand side by side are not copied. Raises ValueError if the Gaussians of some were
    not asked for.
    """
    views, rows = prediction.depth.shape[1], list(rows)
    if rows and min(rows) < views - prediction.offsets.shape[1]:
        raise ValueError(f"view {min(rows)} has no Gaussians")
    together = bool(rows) and rows == list(range(rows[0], rows[-1] + 1))
    chosen = {}
    for name, value in vars(prediction).items():
        if value is None or name == "scale":
            continue
        first = views - value.shape[1]
        own = [row - first for row in rows]
        chosen[name] = value[:, own[0] : own[-1] + 1] if together else value[:, own]
    return replace(prediction, **chosen)
