"""A plane between what a text means and everything else, fitted on the rows of the codebook (GOI).

Qu et al., "GOI: Find 3D Gaussians of Interest with an Optimizable Open-vocabulary Semantic-space
Hyperplane", 2024, turn the text into a plane in the space of features and fit it to a mask. As
features take few values, a loss over pixels is one over rows, weighted by how often each occurs.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from ffsplat import codes
from ffsplat.errors import UsageError
from ffsplat.hits import Match
from ffsplat.query.canonical import TEMPERATURE
from ffsplat.query.cosine import COSINE_THRESHOLD
from ffsplat.query.options import check_positive
from ffsplat.query.question import Question
from ffsplat.query.regions import tables
from ffsplat.query.two_step import Options as TwoSteps
from ffsplat.query.two_step import kept_regions

MAX_STEPS = 8000
STOP_IOU = 0.9
"""Steps of the hinge loss, and the overlap with the mask at which it stops; both from GOI."""

NEWTON_STEPS = 30


@dataclass(frozen=True, eq=False)
class Options:
    """What the plane is fitted to, and how.

    `mask` marks the Gaussians that are known to be meant; without it, they are those of the
    regions that fit the text (`two_step`). `loss` "logistic" has one minimum, which Newton's method
    finds; `strength` ties it to the text. "hinge" is the descent of GOI, from the text for as long
    as the overlap is below `STOP_IOU`.
    """

    mask: Bool[np.ndarray, " n"] | None = None
    loss: Literal["logistic", "hinge"] = "logistic"
    strength: float = 0.01

    def __post_init__(self):
        check_positive("strength", self.strength)


@dataclass(frozen=True, eq=False)
class Hyperplane:
    """A feature x of length 1 is meant if `normal` . x / `scale` + `offset` is positive."""

    normal: Float64[np.ndarray, " d"]
    offset: float
    scale: float = 1 / TEMPERATURE

    def margins(self, features: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        """How far on the meant side each feature is."""
        return features.astype(np.float64, copy=False) @ self.normal / self.scale + self.offset


def match(question: Question, options: Options) -> Match:
    """The probability that a Gaussian lies on the meant side of the plane.

    Without a mask and without a region that fits the text, nothing is found.
    """
    plane = plane_of_text(question)
    positive, negative = examples(question, options)
    if options.mask is None and not positive.any():
        nothing = np.zeros(len(question.scene), np.float32)
        return Match(nothing, (question.counted,), (), question.of_things, 0.5)
    if positive.any() and negative.any():
        rows = question.embeddings
        if options.loss == "hinge":
            plane = fit_hinge(plane, rows, positive, negative)
        else:
            plane = fit_logistic(plane, rows, positive, negative, options.strength)
    scored = question.row_scores(plane.normal[None].astype(np.float32))
    margins = codes.cosine(question.code, scored)[:, 0] / plane.scale + plane.offset
    scores = np.where(question.code.norms > 0, 1 / (1 + np.exp(-margins)), 0).astype(np.float32)
    return Match(scores, (question.counted,), (), question.of_things, 0.5)


def plane_of_text(question: Question) -> Hyperplane:
    """The text itself as a plane: against the mean of the canonical phrases, else at the usual
    threshold of a cosine.
    """
    text = question.embedding
    vector = question.direction.astype(np.float64)
    if len(text.canon):
        return Hyperplane(vector - text.canon.mean(axis=0), 0.0)
    return Hyperplane(vector, -COSINE_THRESHOLD * TEMPERATURE)


def examples(
    question: Question, options: Options
) -> tuple[Float32[np.ndarray, " rows"], Float32[np.ndarray, " rows"]]:
    """How often each row occurs in what is meant and in the rest, weighted by opacity."""
    mask = options.mask
    if mask is None:
        regions, kept = kept_regions(question, TwoSteps())
        mask = np.isin(regions.of, kept)
    elif mask.shape != (len(question.scene),):
        raise UsageError(f"the mask has {mask.shape}, the scene {len(question.scene)} Gaussians")
    opacities = question.scene.gaussians.opacities_of_meaning
    rows = len(question.codebook)
    negative, positive = tables(question.code, mask.astype(np.int64), opacities, 2, rows)
    return positive, negative


def fit_hinge(
    plane: Hyperplane,
    rows: Float32[np.ndarray, "rows d"],
    positive: Float[np.ndarray, " rows"],
    negative: Float[np.ndarray, " rows"],
    rate: float = 0.01,
    max_steps: int = MAX_STEPS,
    stop: float = STOP_IOU,
) -> Hyperplane:
    """Descend on mean(max(0, 1 - y m)) over the occurrences, until the overlap is `stop`.

    Steps of this size never come to rest where no plane parts the rows: from one to the next,
    scores go on changing by some hundredths, and what is cut short after `max_steps` lies anywhere
    within that. In float32, as GOI does it, the same descent ends as far from this one; in float64
    it ends here. Source: GOI, section 3.4, with the hinge loss that its code has in place of the
    printed one.
    """
    inputs = rows.astype(np.float64)
    meant, rest = positive.astype(np.float64), negative.astype(np.float64)
    total = meant.sum() + rest.sum()
    for _ in range(max_steps):
        margins = plane.margins(inputs)
        if _overlap(margins > 0, meant, rest) >= stop:
            break
        slope = (rest * (margins >= -1) - meant * (margins <= 1)) / total
        normal = plane.normal - rate * (slope @ inputs) / plane.scale
        plane = Hyperplane(normal, float(plane.offset - rate * slope.sum()), plane.scale)
    return plane


def overlap(
    plane: Hyperplane,
    rows: Float32[np.ndarray, "rows d"],
    positive: Float[np.ndarray, " rows"],
    negative: Float[np.ndarray, " rows"],
) -> float:
    """Intersection over union of what is meant and what lies on the meant side."""
    return _overlap(plane.margins(rows) > 0, positive, negative)


def _overlap(
    inside: Bool[np.ndarray, " rows"],
    positive: Float[np.ndarray, " rows"],
    negative: Float[np.ndarray, " rows"],
) -> float:
    return float(positive[inside].sum() / max(positive.sum() + negative[inside].sum(), 1e-12))


def fit_logistic(
    plane: Hyperplane,
    rows: Float32[np.ndarray, "rows d"],
    positive: Float[np.ndarray, " rows"],
    negative: Float[np.ndarray, " rows"],
    strength: float = 0.01,
) -> Hyperplane:
    """The plane of least logistic loss, both sides weighing one half, that stays near the given.

    Minimises sum_l p_l log(1 + exp(-m_l)) + n_l log(1 + exp(m_l)) + strength / 2 |change|^2 by
    Newton's method with halved steps. Only the space that the rows span can change, so the step is
    solved in whichever is smaller, rows or numbers of a row.
    """
    used = np.flatnonzero(positive + negative > 0)
    inputs = np.column_stack([rows[used] / plane.scale, np.ones(len(used))]).astype(np.float64)
    side = positive[used] / (2 * positive.sum()), negative[used] / (2 * negative.sum())
    start = np.append(plane.normal, plane.offset)
    change = np.zeros(len(start))

    def loss(change: np.ndarray) -> float:
        margins = inputs @ (start + change)
        fits = side[0] @ np.logaddexp(0, -margins) + side[1] @ np.logaddexp(0, margins)
        return float(fits + strength / 2 * change @ change)

    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ (start + change), -500, 500)))
        slope = inputs.T @ (side[1] * chance - side[0] * (1 - chance)) + strength * change
        step = _newton_step(inputs, (side[0] + side[1]) * chance * (1 - chance), slope, strength)
        size, before = 1.0, loss(change)
        while loss(change - size * step) > before and size > 1e-6:
            size /= 2
        change = change - size * step
        if np.abs(slope).max() < 1e-9:
            break
    fitted = start + change
    return Hyperplane(fitted[:-1], float(fitted[-1]), plane.scale)


def _newton_step(
    inputs: Float64[np.ndarray, "rows d"],
    curvature: Float64[np.ndarray, " rows"],
    slope: Float64[np.ndarray, " d"],
    strength: float,
) -> Float64[np.ndarray, " d"]:
    """(strength I + X^T C X)^-1 slope; with few rows by the identity of Woodbury."""
    scaled = np.sqrt(curvature)[:, None] * inputs
    few = min(scaled.shape)
    if few == scaled.shape[1]:
        return np.linalg.solve(scaled.T @ scaled + strength * np.eye(few), slope)
    inner = scaled @ scaled.T + strength * np.eye(few)
    return (slope - scaled.T @ np.linalg.solve(inner, scaled @ slope)) / strength
