"""Scenes of Gaussian Grouping: identity vectors in the columns `obj_dc_0` ... `obj_dc_15`.

Source: Ye et al., "Gaussian Grouping", 2024: a 1x1 convolution (`classifier.pth` beside the PLY)
makes logits of a vector, and the largest is the number of the object; 0 is what no mask covered.
Gaga keeps its scenes alike. There are no words in such a scene: it has instances, and no codes.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from ffsplat.formats.foreign import (
    cluster,
    column_blocks,
    header_of,
    instances_of,
    linear_layer,
    numbered,
    side_file,
)
from ffsplat.instances import connected_components
from ffsplat.io.ply import read_ply
from ffsplat.types import NO_ID, Scene

CLASSIFIERS = ("classifier.safetensors", "classifier.pth")
CLUSTERS = 256
SAME = 0.9
"""Cosine from which clusters of identities are one object, where there is no classifier."""

_log = logging.getLogger(__name__)


def read(path: str | Path, *, codebook: str | Path | None = None) -> Scene:
    """Read a scene; `codebook` is the file of the classifier, looked for beside the scene.

    Without one, identities are clustered: centres of k-means whose cosine is SAME or more are one
    object. Objects are numbered by size. Raises SceneFileError naming what is wrong with a file.
    """
    path = Path(path)
    header = header_of(path)
    names = numbered(path, header, "obj_dc_")

    def identities() -> Iterator[Float32[np.ndarray, "block d"]]:
        return column_blocks(path, header, names)

    classifier = side_file(path, codebook, CLASSIFIERS)
    if classifier is None:
        _log.warning("%s has no classifier beside it: identities were clustered", path.name)
        found = cluster(identities, header.vertex.count, "identities", CLUSTERS)
        ids, rows = found.codes.ids[:, 0], found.codebook.spaces["identities"].astype(np.float32)
        first, second = np.nonzero(np.triu(rows @ rows.T >= SAME, 1))
        merged = connected_components(len(rows), first, second)
        labels = np.where(ids == NO_ID, NO_ID, merged[ids])
    else:
        weight, bias = linear_layer(classifier, ("", "classifier."), len(names))
        labels = classified(identities(), weight, bias)
    scene = replace(read_ply(path), instances=instances_of(labels))
    return replace(scene, provenance={"model": "Gaussian Grouping"})


def classified(
    identities: Iterator[Float32[np.ndarray, "block d"]],
    weight: Float32[np.ndarray, "objects d"],
    bias: Float32[np.ndarray, " objects"],
) -> Int32[np.ndarray, " n"]:
    """The object of each identity vector, -1 for the background, which is object 0."""
    best = [(block @ weight.T + bias).argmax(axis=1) for block in identities]
    labels = np.concatenate(best).astype(np.int32)
    return np.where(labels == 0, np.int32(NO_ID), labels)
