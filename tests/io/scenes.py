"""Small scenes for the tests of files."""

from dataclasses import replace

import numpy as np

from ffsplat.types import Codebook, Gaussians, Scene, SparseCode

ROWS = 50


def random_codebook(rows: int = ROWS, seed: int = 0) -> Codebook:
    """Random unit rows in two spaces; the first space is not the first by name."""
    random = np.random.default_rng(seed)
    table = random.normal(size=(rows, 16))
    table = (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float16)
    return Codebook(
        names=tuple(f"thing {i}" for i in range(rows)),
        levels=(np.arange(rows) % 3).astype(np.int8),
        parents=np.where(np.arange(rows) % 3 == 1, 0, -1).astype(np.int16),
        counts=np.arange(rows, dtype=np.float32),
        spaces={"words": table, "lexicon": np.eye(rows, dtype=np.float16)},
    )


def random_gaussians(n: int, sh: int = 1, seed: int = 0) -> Gaussians:
    """Gaussians with scales from 0.001 to 3 and any rotation and opacity."""
    random = np.random.default_rng(seed)
    quaternions = random.normal(size=(n, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return Gaussians(
        random.normal(size=(n, 3)).astype(np.float32),
        random.uniform(1e-3, 3, (n, 3)).astype(np.float32),
        quaternions.astype(np.float32),
        random.uniform(0, 1, n).astype(np.float32),
        random.normal(size=(n, sh, 3)).astype(np.float32),
    )


def random_scene(
    n: int = 7, sh: int = 1, codes: int = 4, seed: int = 0, *, meaning: bool = False
) -> Scene:
    """A scene with codes and instances, unless `codes` is 0.

    `meaning` adds an opacity for meaning.
    """
    gaussians = random_gaussians(n, sh, seed)
    if meaning:
        opacities = np.random.default_rng(seed + 2).uniform(0, 1, n).astype(np.float32)
        gaussians = replace(gaussians, meaning_opacities=opacities)
    if not codes:
        return Scene(gaussians)
    random, codebook = np.random.default_rng(seed + 1), random_codebook()
    weights = -np.sort(-random.dirichlet(np.ones(codes), n), axis=1)
    ids = random.integers(0, ROWS, (n, codes)).astype(np.int16)
    ids[0], weights[0] = -1, 0
    halves = weights.astype(np.float16)
    coded = np.einsum("nk,nkd->nd", halves.astype(float), codebook.spaces["words"][ids])
    return Scene(
        gaussians,
        SparseCode(ids, halves, np.linalg.norm(coded, axis=1).astype(np.float16)),
        instances=random.integers(-1, 9, n).astype(np.int32),
        codebook=codebook,
        metric=True,
        provenance={"model": "ffsplat-tiny", "licence": "Apache-2.0"},
    )
