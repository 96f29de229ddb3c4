"""What LangSplatV2 learns: sparse coefficients over a codebook of CLIP features.

Source: Li et al., "LangSplatV2", 2025, its vq_utils.py. The feature of a Gaussian is the sum, over
the layers of its codebook, of the 4 likeliest rows by the softmax of its logits, weighted by these
likelihoods scaled to sum 1. Its rows are not of length 1, ours are: weights take the lengths, so
that directions stay, and the length of a feature goes.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ffsplat.codebook import code_gram
from ffsplat.codes import from_pairs
from ffsplat.errors import SceneFileError
from ffsplat.semantics.bank import nameless
from ffsplat.types import Codebook, SparseCode

SPACE = "open_clip:ViT-B-16/laion2b_s34b_b88k"
"""The network whose features LangSplat and LangSplatV2 learn."""

TOP = 4
"""Rows of a layer that a Gaussian keeps (its --topk)."""

MAX_CODES = 16


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


def check_logits(path: Path, count: int, logits: np.ndarray, books: np.ndarray) -> None:
    """SceneFileError unless logits of so many Gaussians are over the rows of the codebook."""
    fits = books.ndim == 3 and books.shape[1] >= TOP
    if not fits or logits.shape != (count, books.shape[0] * books.shape[1]):
        raise SceneFileError(f"{path}: its tensors do not fit together")
    if TOP * len(books) > MAX_CODES:
        raise SceneFileError(f"{path} has {len(books)} layers of codes, over {MAX_CODES // TOP}")
