"""Scenes of lexicon rows, one Gaussian for each dictionary of row name and weight."""

import numpy as np

from ffsplat import codes
from ffsplat.codebook import lexicon_codebook
from ffsplat.types import Gaussians, Scene


def lexicon_room(pairs: list[dict[str, float]], instances: list[int] | None = None) -> Scene:
    book = lexicon_codebook()
    n = len(pairs)
    ids, weights = np.full((n, 4), -1), np.zeros((n, 4))
    for i, one in enumerate(pairs):
        ids[i, : len(one)] = [book.names.index(name) for name in one]
        weights[i, : len(one)] = list(one.values())
    return Scene(
        gaussians=Gaussians(
            means=np.arange(3 * n, dtype=np.float32).reshape(n, 3),
            scales=np.ones((n, 3), np.float32),
            quaternions_wxyz=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
            opacities=np.ones(n, np.float32),
            sh=np.zeros((n, 1, 3), np.float32),
        ),
        codes=codes.from_pairs(ids, weights, 4),
        instances=None if instances is None else np.array(instances, np.int32),
        codebook=book,
    )
