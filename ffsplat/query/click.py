"""Point and click: everything that belongs to what was pointed at, without a word.

A click is a few Gaussians and how much each counts: given as such, met by a ray (`along_ray`), or
seen in a pixel (`render.picking`). The same instance is the 3-D object of Gaussian Grouping (Ye et
al., ECCV 2024) and SuperGSeg (arXiv 2412.10231), the same part the finer level of the latter.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from ffsplat import codes
from ffsplat.codebook import rows_of_level
from ffsplat.errors import UsageError
from ffsplat.grouping.cells import unit_vectors
from ffsplat.hits import Hit, Match, hits_of
from ffsplat.query.ask import QueryResult
from ffsplat.query.question import meaning
from ffsplat.types import LEVELS, NO_ID, Gaussians, Scene

ALPHA_CUT = 1 / 255
"""Opacity at the ray below which a Gaussian is not met, as in the splatting of 3DGS."""

LIKENESS = 0.9
"""Cosine of codes from which two Gaussians mean the same."""

WHAT = ("instance", "code", "row", "part")
"""What a click may take."""


@dataclass(frozen=True, eq=False)
class Picked:
    """Gaussians that were pointed at, and the share of the picture that each makes there."""

    rows: Int[np.ndarray, " m"]
    weights: Float32[np.ndarray, " m"]

    @classmethod
    def of(cls, *rows: int) -> "Picked":
        """Some Gaussians that count alike."""
        return cls(np.array(rows, np.int64), np.ones(len(rows), np.float32))


def click(
    scene: Scene, picked: Picked, what: str = "instance", *, likeness: float = LIKENESS
) -> QueryResult:
    """Everything that is of the same instance, code, row or part as what was picked.

    - "instance": all of the instance that makes most of it;
    - "code": all whose code has a cosine of `likeness` with the mean code of it, their score;
    - "row": all whose heaviest row of level whole is the same: every chair, say;
    - "part": the Gaussians of that instance with the same heaviest row of level part; of the whole
      scene where nothing picked has an instance.

    Raises UsageError where nothing was picked, or what was picked has no such thing.
    """
    if not len(picked.rows) or picked.weights.sum() <= 0:
        raise UsageError("there is nothing where you point")
    threshold, level = 0.5, "whole"
    if what == "instance":
        scores = _of_instance(scene, picked)
    elif what == "code":
        scores, threshold = _of_code(scene, picked), likeness
    elif what == "row":
        scores = _of_row(scene, picked, "whole")
    elif what == "part":
        scores, level = _of_row(scene, picked, "part"), "part"
        if scene.instances is not None and _heaviest(scene.instances, picked) != NO_ID:
            scores *= _of_instance(scene, picked)
    else:
        raise UsageError(f"cannot click on {what!r}", f"one of {', '.join(WHAT)}")
    return QueryResult(scores, threshold, _hits(scene, scores, threshold, level), "click")


def along_ray(
    gaussians: Gaussians, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]
) -> Picked:
    """The Gaussians that a ray meets, front to back, with their blending weights.

    A Gaussian counts where it is densest on the ray: alpha = opacity exp(-m^2 / 2) for the least
    Mahalanobis distance m, and weight alpha times what those before it let through. Source:
    Moenne-Loccoz et al., "3D Gaussian Ray Tracing", 2024, section 4. The opacities are those of
    meaning. Raises UsageError for a direction without length.
    """
    length = float(np.linalg.norm(direction))
    if not length > 0:
        raise UsageError("a ray needs a direction")
    ahead = np.asarray(direction, np.float64) / length
    offset = gaussians.means - np.asarray(origin, np.float64)
    along = offset @ ahead
    aside = np.square(offset).sum(axis=1) - along**2
    reach = np.sqrt(2 * np.log(1 / ALPHA_CUT)) * gaussians.scales.max(axis=1)
    rows = np.flatnonzero((aside <= reach**2) & (along > -reach))
    local = _world_from_local(gaussians.quaternions_wxyz[rows])
    scales = np.maximum(gaussians.scales[rows], 1e-12)
    start = -np.einsum("nij,ni->nj", local, offset[rows]) / scales
    way = np.einsum("nij,i->nj", local, ahead) / scales
    at = -(start * way).sum(axis=1) / np.square(way).sum(axis=1)
    squared = np.square(start + at[:, None] * way).sum(axis=1)
    alpha = gaussians.opacities_of_meaning[rows] * np.exp(-squared / 2)
    met = (alpha >= ALPHA_CUT) & (at > 0)
    order = np.flatnonzero(met)[np.argsort(at[met], kind="stable")]
    solid = np.minimum(alpha[order], 0.999)
    through = np.cumprod(np.append(1, 1 - solid))[:-1]
    return Picked(rows[order], (solid * through).astype(np.float32))


def _of_instance(scene: Scene, picked: Picked) -> Float32[np.ndarray, " n"]:
    instance = NO_ID if scene.instances is None else _heaviest(scene.instances, picked)
    if scene.instances is None or instance == NO_ID:
        raise UsageError(
            "what you point at is of no instance", "group the scene first, or click on its code"
        )
    return (scene.instances == instance).astype(np.float32)


def _of_code(scene: Scene, picked: Picked) -> Float32[np.ndarray, " n"]:
    """Cosine with the mean unit vector of what was picked, in the codebook's first space."""
    code, codebook = meaning(scene)
    rows = next(iter(codebook.spaces.values())).astype(np.float32)
    vector = picked.weights @ unit_vectors(code[picked.rows], rows)
    length = float(np.linalg.norm(vector))
    if not length > 0:
        raise UsageError("nothing is known of what you point at")
    return codes.cosine(code, rows @ (vector / np.float32(length)))


def _of_row(scene: Scene, picked: Picked, level: str) -> Float32[np.ndarray, " n"]:
    code, codebook = meaning(scene)
    counted = np.append(codebook.levels == LEVELS.index(level), False)
    weights = np.where(counted[code.ids], code.weights, np.float16(0))
    best = weights.argmax(axis=1)[:, None]
    known = np.take_along_axis(weights, best, axis=1)[:, 0] > 0
    leading = np.where(known, np.take_along_axis(code.ids, best, axis=1)[:, 0], NO_ID)
    row = _heaviest(leading, picked)
    if row == NO_ID:
        raise UsageError(f"what you point at has no {level}", "click on its instance or its code")
    return (leading == row).astype(np.float32)


def _heaviest(numbers: Int[np.ndarray, " n"], picked: Picked) -> int:
    """The number that most of what was picked has, NO_ID only where nothing has another."""
    own = numbers[picked.rows]
    values, slots = np.unique(own, return_inverse=True)
    totals = np.where(values == NO_ID, 0, np.bincount(slots, picked.weights))
    return int(values[totals.argmax()])


def _hits(
    scene: Scene, scores: Float32[np.ndarray, " n"], threshold: float, level: str
) -> tuple[Hit, ...]:
    """What was found as hits; a scene without codes has one, without a name."""
    if scene.codes is not None and scene.codebook is not None:
        named = np.zeros(len(scene.codebook), bool)
        named[rows_of_level(scene.codebook, level)] = True
        match = Match(scores, (named,), (), False, threshold)
        return hits_of(scene, match, "clicked", threshold, 1, len(scene) + 1)
    rows = np.flatnonzero(scores >= threshold)
    means = scene.gaussians.means[rows]
    weights = np.maximum(scene.gaussians.opacities_of_meaning[rows], np.float32(1e-6))
    instance = NO_ID if scene.instances is None else int(scene.instances[rows[0]])
    center = np.average(means.astype(np.float64), axis=0, weights=weights).astype(np.float32)
    corners = means.min(axis=0), means.max(axis=0)
    return (Hit("clicked", instance, 1.0, len(rows), center, *corners, rows),)


def _world_from_local(quaternions_wxyz: Float32[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 3 3"]:
    """Rotation matrices of unit quaternions; columns are the axes of the Gaussians."""
    w, x, y, z = quaternions_wxyz.astype(np.float64).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
