"""Which Gaussians of one frame belong to one object, by the rule of `instances.label_instances`.

There a scene is sorted by cell; here the cells of a frame are found as those of the map are, by
hash, and linked as they are met.
"""

import math
from itertools import product

import numpy as np
from jaxtyping import Float, Float32, Int32

from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.table import EMPTY, cell_key, empty_table, find, insert

APART = 0.3
"""Cosine distance between the mean embeddings of cells of one object, at most."""

FEWEST = 20
"""Gaussians of an object, at least."""

NEIGHBORS = np.array(
    [(x << 32) + (y << 16) + z for x, y, z in product((-1, 0, 1), repeat=3) if (x, y, z) > (0,) * 3]
)
"""What leads from the key of a cell to 13 of the 26 around it; the others are met from there."""


def number_objects(
    means: Float32[np.ndarray, "n 3"],
    classes: Int32[np.ndarray, " n"],
    embeddings: Float32[np.ndarray, "n e"],
    origin: Float[np.ndarray, "3"],
    cell: float,
) -> Int32[np.ndarray, " n"]:
    """The number of each Gaussian's object, -1 for none, in the order in which they are met.

    Gaussians of one class, from 0 to 32,767, in one cell of side `cell` are one node; nodes of
    touching cells (26 neighbours) are linked if they have the same class and the cosine distance
    between their mean embeddings is at most APART; an object is a connected component of at least
    FEWEST Gaussians. Those farther than 32,767 cells from `origin`, or of class -1, are in none.
    """
    count = len(means)
    nodes, roots, numbers = np.empty((3, count), np.int32)
    keys, sums = np.empty(count, np.int64), np.zeros((count, embeddings.shape[1]))
    table = empty_table(count)
    here = np.asarray(origin, np.float64)
    found = gather(table, means, classes, embeddings, here, cell, nodes, keys, sums)
    link(table, keys[:found], sums, roots)
    number(nodes, roots, np.zeros(found, np.int32), np.full(found, -1, np.int32), numbers)
    return numbers


@lean
def gather(table, means, classes, embeddings, origin, cell, nodes, keys, sums):
    """The node of each Gaussian, -1 for none; their keys and sums of embeddings; how many."""
    slots, occupants = table
    count = np.int32(0)
    for i in range(len(means)):
        nodes[i] = -1
        if classes[i] < 0:
            continue
        x, y, z = means[i, 0] - origin[0], means[i, 1] - origin[1], means[i, 2] - origin[2]
        key = cell_key(classes[i], x, y, z, cell)
        if key == EMPTY:
            continue
        node = find(slots, occupants, key)
        if node < 0:
            node = count
            insert(slots, occupants, key, node)
            keys[node] = key
            count += np.int32(1)
        nodes[i] = node
        for k in range(embeddings.shape[1]):
            sums[node, k] += embeddings[i, k]
    return count


@lean
def link(table, keys, sums, roots):
    """Connect nodes: a union-find, the smallest node of each component being its root."""
    slots, occupants = table
    for node in range(len(keys)):
        roots[node] = node
        squared = 0.0
        for k in range(sums.shape[1]):
            squared += sums[node, k] ** 2
        for k in range(sums.shape[1]):
            sums[node, k] /= max(math.sqrt(squared), 1e-12)
    for node in range(len(keys)):
        for step in NEIGHBORS:
            other = find(slots, occupants, keys[node] + step)
            if other < 0:
                continue
            likeness = 0.0
            for k in range(sums.shape[1]):
                likeness += sums[node, k] * sums[other, k]
            if likeness >= 1 - APART:
                a, b = root_of(roots, node), root_of(roots, other)
                roots[max(a, b)] = min(a, b)


@lean
def root_of(roots, node):
    """The root of a node; the way there gets shorter (Tarjan & van Leeuwen, J. ACM 31, 1984)."""
    while roots[node] != node:
        roots[node] = roots[roots[node]]
        node = roots[node]
    return node


@lean
def number(nodes, roots, sizes, names, numbers):
    """Number components that are large enough; `sizes` are zeros and `names` -1, a node each."""
    for i in range(len(nodes)):
        if nodes[i] >= 0:
            sizes[root_of(roots, nodes[i])] += 1
    count = np.int32(0)
    for i in range(len(nodes)):
        numbers[i] = -1
        if nodes[i] < 0:
            continue
        root = root_of(roots, nodes[i])
        if sizes[root] < FEWEST:
            continue
        if names[root] < 0:
            names[root] = count
            count += np.int32(1)
        numbers[i] = names[root]
