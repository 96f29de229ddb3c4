"""Scenes of SIU3R: classes, instances and class probabilities of every Gaussian.

Source: Xu et al., "SIU3R", 2025, its ply_export.py. Its columns differ from those of 3DGS: the
opacity is linear, quaternions are not of length 1, and SH go up to degree 4, of which we keep 3.
`semantic_label` is one of 20 classes of ScanNet, 0 for none; `instance_label` counts from 1.
`seg_query_class_logits_i` holds, for each of q queries, the product of the probabilities of its
mask and of 21 classes, the last of them "no object": 21 columns a query.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from ffsplat.codebook import LEXICON, lexicon_rows
from ffsplat.codes import from_dense, from_pairs
from ffsplat.errors import SceneFileError
from ffsplat.formats.foreign import column_blocks, header_of, instances_of, numbered
from ffsplat.formats.packing import Parts, readable
from ffsplat.io.header import Header
from ffsplat.io.layout import COLOR, POSITION, ROTATION, SCALE
from ffsplat.types import LEVELS, NO_ID, Codebook, Gaussians, Scene, SparseCode

CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink",
    "bathtub", "otherfurniture",
)  # fmt: skip
"""The classes that it knows, by their number less 1 (ScanNet's 20)."""

LEXICON_NAMES = {"shower curtain": "curtain"}
"""Rows of the lexicon under another name; a class without one is never found by the lexicon."""

LOGITS = "seg_query_class_logits_"
KEPT = 15
"""Coefficients of degree 1 to 3."""


def read(path: str | Path) -> Scene:
    """Read a scene; codes are its class probabilities, or its classes where it has no more.

    Raises SceneFileError naming what is wrong with the file.
    """
    path = Path(path)
    header = header_of(path)
    names = {name for name, _ in header.vertex.properties}
    labels = _columns(path, header, ("semantic_label", "instance_label")).astype(np.int32)
    if labels.min() < 0 or labels[:, 0].max() > len(CLASSES):
        raise SceneFileError(f"{path.name} has a semantic_label outside 0..{len(CLASSES)}")
    codes = _from_labels(labels[:, 0])
    if f"{LOGITS}0" in names:
        codes = _from_queries(path, header)
    return Scene(
        _gaussians(path, header),
        codes,
        instances_of(np.where(labels[:, 1] == 0, NO_ID, labels[:, 1])),
        class_codebook(),
        provenance={"model": "SIU3R"},
    )


def class_codebook() -> Codebook:
    """One row a class, in the lexicon: the row of its name, or 0 where the lexicon lacks it."""
    places = {row.name: place for place, row in enumerate(lexicon_rows())}
    table = np.zeros((len(CLASSES), len(places)), np.float16)
    for row, name in enumerate(CLASSES):
        place = places.get(LEXICON_NAMES.get(name, name))
        if place is not None:
            table[row, place] = 1
    return Codebook(
        names=CLASSES,
        levels=np.full(len(CLASSES), LEVELS.index("whole"), np.int8),
        parents=np.full(len(CLASSES), NO_ID, np.int16),
        counts=np.zeros(len(CLASSES), np.float32),
        spaces={LEXICON: table},
    )


def _from_labels(labels: Int[np.ndarray, " n"]) -> SparseCode:
    weights = (labels[:, None] > 0).astype(np.float32)
    return from_pairs(labels[:, None] - 1, weights, 1)


def _from_queries(path: Path, header: Header) -> SparseCode:
    """Evidence for a class is its probability summed over the queries; "no object" is none."""
    columns = numbered(path, header, LOGITS)
    total = len(CLASSES) + 1
    if len(columns) % total:
        raise SceneFileError(f"{path.name} has {len(columns)} class columns, not {total} a query")
    evidence = [
        block.reshape(len(block), -1, total)[:, :, :-1].sum(axis=1).clip(min=0)
        for block in column_blocks(path, header, columns)
    ]
    return from_dense(np.concatenate(evidence))


def _gaussians(path: Path, header: Header) -> Gaussians:
    """Their Gaussians in our terms."""
    rest = sum(name.startswith("f_rest_") for name, _ in header.vertex.properties)
    if rest % 3 or rest // 3 not in (0, 3, 8, 15, 24):
        raise SceneFileError(f"{path.name} has {rest} f_rest columns")
    higher = tuple(f"f_rest_{i}" for i in range(rest))
    names = (*POSITION, *COLOR, "opacity", *SCALE, *ROTATION, *higher)
    means, color, opacity, scale, rotation, detail = np.split(
        _columns(path, header, names), (3, 6, 7, 10, 14), axis=1
    )
    if opacity.min() < 0 or opacity.max() > 1:
        raise SceneFileError(f"{path.name} has an opacity outside 0..1, so it is not by SIU3R")
    by_channel = detail.reshape(len(detail), 3, rest // 3).transpose(0, 2, 1)[:, :KEPT]
    sh = np.concatenate([color[:, None], by_channel], axis=1)
    with np.errstate(over="ignore"):
        scales = np.exp(scale)
    parts = Parts(np.ascontiguousarray(means), scales, rotation, opacity[:, 0].copy(), sh)
    return readable(parts, path.name)


def _columns(path: Path, header: Header, names: tuple[str, ...]) -> Float32[np.ndarray, "n d"]:
    missing = set(names) - {name for name, _ in header.vertex.properties}
    if missing or not header.vertex.count:
        raise SceneFileError(f"{path.name} has no {', '.join(sorted(missing)[:5]) or 'Gaussians'}")
    return np.concatenate(list(column_blocks(path, header, names)))
