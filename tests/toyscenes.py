"""Small scenes with a space of vectors, each Gaussian's meaning written out as pairs."""

import numpy as np

from ffsplat import codes
from ffsplat.codebook import add_space
from ffsplat.embeddings import TextEmbedding
from ffsplat.types import LEVELS, Codebook, Gaussians, Scene

SPACE = "fake"


class Vectors:
    """A text space that knows the vectors of some phrases."""

    name = SPACE

    def __init__(self, known: dict[str, np.ndarray]):
        self.known = known

    def encode(self, phrases):
        return np.stack([self.known[phrase] for phrase in phrases]).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def vector_book(
    rows: dict[str, np.ndarray], levels: dict[str, str] | None = None, parents: list | None = None
) -> Codebook:
    """A codebook of named vectors; `levels` of names are whole unless said otherwise."""
    n = len(rows)
    bare = Codebook(
        names=tuple(rows),
        levels=np.array([LEVELS.index((levels or {}).get(x, "whole")) for x in rows], np.int8),
        parents=np.array(parents or [-1] * n, np.int16),
        counts=np.ones(n, np.float32),
        spaces={},
    )
    return add_space(bare, SPACE, np.stack(list(rows.values())))


def vector_scene(
    book: Codebook, pairs: list[dict[str, float]], instances: list[int] | None = None, k: int = 4
) -> Scene:
    """One Gaussian for each dictionary of row name and weight."""
    n = len(pairs)
    ids, weights = np.full((n, k), -1), np.zeros((n, k))
    for i, one in enumerate(pairs):
        ids[i, : len(one)] = [book.names.index(name) for name in one]
        weights[i, : len(one)] = list(one.values())
    rows = book.spaces[SPACE].astype(np.float32)
    means = np.zeros((n, 3), np.float32)
    means[:, 0] = np.arange(n)
    return Scene(
        gaussians=Gaussians(
            means=means,
            scales=np.ones((n, 3), np.float32),
            quaternions_wxyz=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
            opacities=np.ones(n, np.float32),
            sh=np.zeros((n, 1, 3), np.float32),
        ),
        codes=codes.from_pairs(ids, weights, k, rows @ rows.T),
        instances=None if instances is None else np.array(instances, np.int32),
        codebook=book,
    )


def features(scene: Scene) -> np.ndarray:
    """The coded vectors in full, of length 1 (or 0)."""
    dense = codes.to_dense(scene.codes, len(scene.codebook)).astype(np.float64)
    coded = dense @ scene.codebook.spaces[SPACE].astype(np.float64)
    lengths = np.linalg.norm(coded, axis=1, keepdims=True)
    return np.divide(coded, lengths, out=np.zeros_like(coded), where=lengths > 0)


def saved(text: str, vector: np.ndarray, canon: np.ndarray | None = None) -> TextEmbedding:
    canon = np.zeros((0, len(vector))) if canon is None else canon
    return TextEmbedding(text, SPACE, vector.astype(np.float32), canon.astype(np.float32))
