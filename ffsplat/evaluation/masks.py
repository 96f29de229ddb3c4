"""What is measured of one phrase in one image: overlap of masks, and a point in a box."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64

ACCURACY_AT = (0.25, 0.5)
"""IoUs above which an answer counts as right."""


def mask_iou(guess: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """Intersection over union of two masks, 0 if both are empty.

    Source: `compute_lerf_iou.py` of OpenGaussian (Wu et al., 2024), which counts an empty union so.
    """
    union = np.count_nonzero(guess | truth)
    return float(np.count_nonzero(guess & truth) / union) if union else 0.0


def summarize(ious: Sequence[float]) -> dict[str, float]:
    """The mean IoU, and the share of answers whose IoU is above each of `ACCURACY_AT`.

    The comparison is strict, as in `compute_lerf_iou.py` of OpenGaussian. NaN without any answer.
    """
    values: Float64[np.ndarray, " n"] = np.asarray(ious, np.float64)
    if not len(values):
        return {"miou": float("nan")} | {f"macc@{at}": float("nan") for at in ACCURACY_AT}
    shares = {f"macc@{at}": float((values > at).mean()) for at in ACCURACY_AT}
    return {"miou": float(values.mean())} | shares


def is_localized(pointed: Bool[np.ndarray, "h w"], boxes: Float[np.ndarray, "n 4"]) -> bool:
    """Whether one of the pixels that are pointed at lies in a box.

    Boxes are two opposite corners (x, y, x, y) in pixels, both inside. A map that is the same
    everywhere points at every pixel, which is wrong, where the original would be right by chance.
    Source: `lerf_localization` of LangSplat (Qin et al., 2024).
    """
    if pointed.all():
        return False
    y, x = np.nonzero(pointed)
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    points = np.stack([x, y], axis=1)[:, None]
    return bool(((points >= low) & (points <= high)).all(axis=2).any())
