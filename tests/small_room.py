"""A scene with three things in it, made by hand."""

import numpy as np

from ffsplat import codes
from ffsplat.codebook import lexicon_codebook
from ffsplat.types import SH_C0, Gaussians, Scene

NAMES = ("table", "sofa", "wall")
SHARES = (0.3, 0.2, 0.5)


def small_room(count: int = 1000) -> Scene:
    """A red table, a blue sofa to its right and a grey wall behind both, as noisy blobs.

    The table has the first 30 % of the Gaussians, the sofa the next 20 %; each is an instance.
    """
    generator = np.random.default_rng(7)
    book = lexicon_codebook()
    labels = np.repeat(np.arange(3), [round(share * count) for share in SHARES])
    means = np.array([[0, 0, 2], [1, 0, 2], [0.5, 0, 4]])[labels]
    means = means + generator.uniform(-0.2, 0.2, (count, 3))
    colors = np.array([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9], [0.5, 0.5, 0.5]])[labels]
    ids = np.array([book.names.index(name) for name in NAMES])[labels]
    gaussians = Gaussians(
        means.astype(np.float32),
        np.full((count, 3), 0.03, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 0.9, np.float32),
        ((colors - 0.5) / SH_C0).astype(np.float32)[:, None],
    )
    code = codes.from_pairs(ids[:, None].astype(np.int16), np.ones((count, 1), np.float32), 4)
    provenance = {"model": "stand-in", "license": "CC0-1.0"}
    return Scene(gaussians, code, labels.astype(np.int32), book, provenance=provenance)
