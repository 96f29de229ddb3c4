"""Checkpoints of LangSplatV2: sparse coefficients over a codebook of CLIP features.

Source: Li et al., "LangSplatV2", 2025, its gaussian_model.py and vq_utils.py. `chkpntN.pth` holds
what `capture` returns, 14 values, and the iteration. The feature of a Gaussian is the sum, over the
layers of its codebook, of the 4 likeliest rows by the softmax of its logits, weighted by these
likelihoods scaled to sum 1. Its rows are not of length 1, ours are: weights take the lengths, so
that directions stay, and the length of a feature goes. A checkpoint holds one of three levels.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ffsplat.codebook import code_gram
from ffsplat.codes import from_pairs
from ffsplat.errors import SceneFileError
from ffsplat.io.layout import SH_COUNTS
from ffsplat.semantics.bank import nameless
from ffsplat.types import Codebook, Gaussians, Scene, SparseCode

SPACE = "open_clip:ViT-B-16/laion2b_s34b_b88k"
"""The network whose features it learns."""

TOP = 4
"""Rows of a layer that a Gaussian keeps (its --topk)."""

CAPTURED = 14
LARGEST = 1e15
"""Of any number: squares of it are still finite in float32."""

MAX_CODES = 16


def read(path: str | Path) -> Scene:
    """Read a checkpoint as a scene with codes.

    Nothing of the file is run; see `ffsplat.weights.foreign`. Raises CheckpointError for a file
    that is refused, SceneFileError for one that is not such a checkpoint.
    """
    import torch

    from ffsplat.weights.foreign import check_tensors, load_restricted

    path = Path(path)
    loaded = load_restricted(path, numpy_scalars=True)
    match loaded:
        case (tuple() | list() as captured, int(_)) if len(captured) == CAPTURED:
            values = list(captured[1:9])
        case _:
            raise SceneFileError(
                f"{path} is no checkpoint of LangSplatV2 with language features",
                "give one that was trained with --include_feature",
            )
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise SceneFileError(f"{path}: its Gaussians are not tensors")
    check_tensors(path, {str(i): value for i, value in enumerate(values)})
    arrays = [value.detach().float().numpy() for value in values]
    _check(path, arrays)
    *shape, logits, books = arrays
    codes, codebook = sparse_codes(logits, books)
    provenance = {"model": "LangSplatV2"}
    return Scene(_gaussians(shape), codes, codebook=codebook, provenance=provenance)


def sparse_codes(
    logits: Float32[np.ndarray, "n logits"], books: Float32[np.ndarray, "layers rows d"]
) -> tuple[SparseCode, Codebook]:
    """Codes and codebook whose vectors have the directions of LangSplatV2's features."""
    layers, rows, _ = books.shape
    table = books.reshape(layers * rows, -1)
    lengths = np.linalg.norm(table, axis=1)
    ids, weights = [], []
    for layer in range(layers):
        part = logits[:, layer * rows : (layer + 1) * rows]
        best = np.argsort(-part, axis=1, kind="stable")[:, :TOP]
        values = np.take_along_axis(part, best, axis=1)
        shares = np.exp(values - values[:, :1])
        shares /= shares.sum(axis=1, keepdims=True)
        ids.append(best + layer * rows)
        weights.append(shares * lengths[ids[-1]])
    pairs, heavy = np.concatenate(ids, axis=1), np.concatenate(weights, axis=1)
    counts = np.bincount(pairs[heavy > 0], minlength=len(table)).astype(np.float32)
    codebook = nameless(counts, table, SPACE)
    return from_pairs(pairs, heavy, pairs.shape[1], code_gram(codebook)), codebook


def _check(path: Path, arrays: list[np.ndarray]) -> None:
    """SceneFileError unless the tensors have the shapes of one scene."""
    xyz, dc, rest, scaling, rotation, opacity, logits, books = arrays
    n = len(xyz)
    shapes = (xyz.shape, dc.shape, scaling.shape, rotation.shape, opacity.shape)
    fits = shapes == ((n, 3), (n, 1, 3), (n, 3), (n, 4), (n, 1)) and n > 0
    fits = fits and rest.ndim == 3 and rest.shape[::2] == (n, 3) and rest.shape[1] + 1 in SH_COUNTS
    fits = fits and books.ndim == 3 and books.shape[1] >= TOP
    if not fits or logits.shape != (n, books.shape[0] * books.shape[1]):
        raise SceneFileError(f"{path}: its tensors do not fit together")
    if TOP * len(books) > MAX_CODES:
        raise SceneFileError(f"{path} has {len(books)} layers of codes, over {MAX_CODES // TOP}")
    if not all((np.abs(array) < LARGEST).all() for array in arrays):
        raise SceneFileError(f"{path} has values that are not finite, or too large")
    if not np.linalg.norm(rotation, axis=1).all() or scaling.max() > 88:
        raise SceneFileError(f"{path} has Gaussians without a shape")


def _gaussians(arrays: list[np.ndarray]) -> Gaussians:
    xyz, dc, rest, scaling, rotation, opacity = arrays
    return Gaussians(
        xyz.copy(),
        np.maximum(np.exp(scaling), np.finfo(np.float32).tiny),
        rotation / np.linalg.norm(rotation, axis=1, keepdims=True),
        (1 / (1 + np.exp(-opacity[:, 0].astype(np.float64)))).astype(np.float32),
        np.concatenate([dc, rest], axis=1),
    )
