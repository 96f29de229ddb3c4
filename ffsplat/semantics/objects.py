"""Objects without masks, and codes that name objects instead of kinds."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int16, Int32

from ffsplat import codes
from ffsplat.codebook import gram
from ffsplat.codes import MAX_ROWS
from ffsplat.instances import label_instances
from ffsplat.prediction import PixelMeaning
from ffsplat.semantics.bank import nameless
from ffsplat.types import NO_ID, Scene
from ffsplat.voxels import group

SMALLEST = 3
"""Places that an object has at least, where no mask says what is one."""


def connected_objects(
    ids: Int16[np.ndarray, " n"], points: Float32[np.ndarray, "n 3"], gap: float
) -> Int32[np.ndarray, " n"]:
    """Number the connected pieces of equal row among places in the world, -1 for none.

    Places are connected if they lie in the same or in touching cells of side `gap`.
    """
    alike = np.ones((len(ids), 1), np.float32)
    return label_instances(points, ids.astype(np.int64), alike, gap, min_gaussians=SMALLEST)


def code_objects(
    features: Float32[np.ndarray, "v y x d"],
    instances: Int32[np.ndarray, "v h w"],
    confidence: Float32[np.ndarray, "v h w"],
    space: str,
) -> PixelMeaning:
    """Hard IDs: one codebook row an object, the mean feature of its pixels; K = 1.

    A pixel has the feature of the cell it lies in and counts by its confidence. Pixels of no object
    and objects without a feature have no evidence. Object numbers stay. Sources: the language
    memory bank of SLGaussian (arXiv 2412.08331), the masklet mean of "Semantic Consistent Language
    Gaussian Splatting" (2025), section 4.1, over all views of an object.
    """
    v, h, w = instances.shape
    y, x = features.shape[1:3]
    cell = (np.arange(h) * y // h)[:, None] * x + np.arange(w) * x // w
    cell = np.arange(v)[:, None, None] * (y * x) + cell
    known = np.flatnonzero((instances.ravel() != NO_ID) & (confidence.ravel() > 0))
    pairs = group(instances.ravel()[known].astype(np.int64) << 32 | cell.ravel()[known])
    weights = pairs.sum(confidence.ravel()[known]).astype(np.float32)
    objects = group(pairs.keys >> 32)
    seen = features.reshape(v * y * x, -1)[pairs.keys & 0xFFFFFFFF]
    pooled = objects.mean(seen, weights) if len(objects) else seen
    support = objects.sum(weights).astype(np.float32)
    kept = np.sort(np.argsort(-support, kind="stable")[:MAX_ROWS])
    row_of = np.full(instances.max(initial=NO_ID) + 2, NO_ID, np.int16)
    row_of[objects.keys[kept]] = np.arange(len(kept))
    ids = row_of[instances][..., None]
    weight = (ids != NO_ID).astype(np.float32)
    return PixelMeaning(ids, weight, instances, nameless(support[kept], pooled[kept], space))


def name_objects(scene: Scene, space: str) -> Scene:
    """The scene with one codebook row an object: the direction of the mean of its coded vectors.

    Gaussians count by their opacity; those of no object have no evidence. K is 1. What
    `code_objects` does from features, this does afterwards, where windows were joined to a map.
    """
    assert scene.codes is not None
    assert scene.codebook is not None
    assert scene.instances is not None
    known = scene.instances != NO_ID
    objects = group(scene.instances[known].astype(np.int64))
    weights = scene.codes.weights[known].astype(np.float32)
    weights *= scene.gaussians.opacities_of_meaning[known, None]
    ids = scene.codes.ids[known]
    sums = np.zeros((len(objects), len(scene.codebook)), np.float32)
    used = ids != NO_ID
    owners = np.broadcast_to(objects.index[:, None], ids.shape)
    np.add.at(sums, (owners[used], ids[used]), weights[used])
    table = nameless(sums.sum(1), sums @ scene.codebook.spaces[space].astype(np.float32), space)
    code = np.full((len(scene), 1), NO_ID, np.int16)
    code[known, 0] = objects.index
    return replace(
        scene,
        codes=codes.from_pairs(code, (code != NO_ID).astype(np.float32), 1, gram(table, space)),
        codebook=table,
    )
