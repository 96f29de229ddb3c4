"""Checkpoints of LangSplatV2: sparse coefficients over a codebook of CLIP features.

Source: Li et al., "LangSplatV2", 2025, its gaussian_model.py and vq_utils.py. `chkpntN.pth` holds
what `capture` returns, 14 values, and the iteration. The feature of a Gaussian is the sum, over the
layers of its codebook, of the 4 likeliest rows by the softmax of its logits, weighted by these
likelihoods scaled to sum 1. Its rows are not of length 1, ours are: weights take the lengths, so
that directions stay, and the length of a feature goes. A checkpoint holds one of three levels, in
folders NAME_1 (small), NAME_2 (middle) and NAME_3 (large); all that are there become one scene of
three levels, the small one's rows subparts, the middle one's parts, the large one's things.
"""

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ffsplat.codebook import code_gram
from ffsplat.codes import MAX_ROWS, from_pairs
from ffsplat.errors import SceneFileError
from ffsplat.io.layout import SH_COUNTS
from ffsplat.semantics.bank import nameless
from ffsplat.types import ASKED_LEVELS, LEVELS, Codebook, Gaussians, Scene, SparseCode

SPACE = "open_clip:ViT-B-16/laion2b_s34b_b88k"
"""The network whose features it learns."""

TOP = 4
"""Rows of a layer that a Gaussian keeps (its --topk)."""

CAPTURED = 14
LARGEST = 1e15
"""Of any number: squares of it are still finite in float32."""

MAX_CODES = 16

LARGE = 3
"""The number of its level of large segments."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Checkpoint:
    """One level: tensors of the Gaussians, logits of rows, and layers of rows."""

    shape: list[np.ndarray]
    logits: Float32[np.ndarray, "n logits"]
    books: Float32[np.ndarray, "layers rows d"]


def read(path: str | Path) -> Scene:
    """Read a checkpoint, and those of the other levels in the folders beside its own, as a scene.

    Nothing of a file is run; see `ffsplat.weights.foreign`. Raises CheckpointError for a file that
    is refused, SceneFileError for one that is not such a checkpoint, or for levels of different
    Gaussians.
    """
    path = Path(path)
    files = level_files(path)
    if len(files) > 1:
        _log.info("levels %s of one scene are read together", " ".join(map(str, files)))
    first, parts = None, []
    for level, file in files.items():
        found = _checkpoint(file)
        if first is None:
            first = found
        elif not np.array_equal(found.shape[0], first.shape[0]):
            raise SceneFileError(f"{file} has other Gaussians than {files[min(files)]}")
        codes, codebook = sparse_codes(found.logits, found.books)
        kind = ASKED_LEVELS[0] if len(files) == 1 else ASKED_LEVELS[LARGE - level]
        levels = np.full(len(codebook), LEVELS.index(kind), np.int8)
        parts.append((codes, replace(codebook, levels=levels)))
    assert first is not None
    codes, codebook = parts[0] if len(parts) == 1 else _joined(parts)
    provenance = {"model": "LangSplatV2"}
    return Scene(_gaussians(first.shape), codes, codebook=codebook, provenance=provenance)


def level_files(path: Path) -> dict[int, Path]:
    """The checkpoints of all levels of a scene by number, from the path of one of them.

    Levels lie in NAME_1, NAME_2 and NAME_3 under one file name; any other path is level LARGE.
    """
    folder = path.absolute().parent
    if not (match := re.fullmatch(r"(.*)_([123])", folder.name)):
        return {LARGE: path}
    others = {n: folder.with_name(f"{match[1]}_{n}") / path.name for n in (1, 2, 3)}
    return {n: file for n, file in others.items() if n == int(match[2]) or file.is_file()}


def _joined(parts: list[tuple[SparseCode, Codebook]]) -> tuple[SparseCode, Codebook]:
    """Codes of several levels as one, each with the same share of the weight."""
    starts = np.cumsum([0, *(len(book) for _, book in parts)])
    pairs = zip(parts, starts[:-1], strict=True)
    ids = [np.where(code.ids < 0, -1, code.ids + start) for (code, _), start in pairs]
    weights = [code.weights.astype(np.float32) for code, _ in parts]
    tables = [book.spaces[SPACE].astype(np.float32) for _, book in parts]
    if len({table.shape[1] for table in tables}) > 1:
        raise SceneFileError("levels have features of different sizes")
    codebook = nameless(
        np.concatenate([book.counts for _, book in parts]), np.concatenate(tables), SPACE
    )
    codebook = replace(codebook, levels=np.concatenate([book.levels for _, book in parts]))
    width = sum(one.shape[1] for one in ids)
    if width > MAX_CODES or len(codebook) > MAX_ROWS:
        raise SceneFileError(f"levels have {width} codes and {len(codebook)} rows together")
    gram = code_gram(codebook)
    return from_pairs(np.concatenate(ids, 1), np.concatenate(weights, 1), width, gram), codebook


def _checkpoint(path: Path) -> _Checkpoint:
    import torch

    from ffsplat.weights.foreign import check_tensors, load_restricted

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
    return _Checkpoint(shape, logits, books)


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
