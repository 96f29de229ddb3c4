"""Observations join the places that they belong to: a running mean weighted by confidence.

A place moves, shrinks and takes on colour by the share of the newcomer in all the confidence that
it has, which is capped so that the map follows what changes. Shapes are averaged as variances by
rank - the longest axis with the longest - because two networks, or two views, may call one axis of
a disc by different names, and their noise would make it thick; the rotation is that of the most
confident observation. What joins a place at one moment lies side by side on one surface, so its
spread widens the place (moment matching: Runnalls, IEEE TAES 43(3), 2007); what joins at different
moments is one thing seen twice, and noise must not widen it.
"""

import numpy as np

from ffsplat.render.kernel import exactly_compiled
from ffsplat.stream.map.instances import vote
from ffsplat.stream.map.pairs import CAP, add_code
from ffsplat.stream.map.shape import along_axes, ranked, turned
from ffsplat.stream.map.table import EMPTY, cell_key, delete, find, insert

REACH = 3.0
"""Standard deviations of the larger one between two Gaussians that may become one in shape; at any
rate those of one cell may. Of one from farther away only confidence, colour and meaning count."""

THINNEST = 1e-9
"""Standard deviation that an observation has at least, in the unit of its submap."""


@exactly_compiled
def moved(matrix, points, i):
    """A point of a list under a 3x4 matrix."""
    x, y, z = points[i, 0], points[i, 1], points[i, 2]
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3],
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3],
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3],
    )


@exactly_compiled
def usable(batch, i):
    """Whether an observation is finite and has confidence."""
    total = batch.opacities[i] + batch.confidence[i]
    for k in range(3):
        total += batch.means[i, k] + batch.scales[i, k] + batch.colors[i, k]
    for k in range(4):
        total += batch.quaternions_wxyz[i, k]
    return np.isfinite(total) and batch.confidence[i] > 0


@exactly_compiled
def find_places(table, keys, batch, into_local, submaps, cell, found, own):
    """The place of each observation, -1 for none, and its key in the last of the submaps.

    First its target, if that is alive, then its cells in the submaps, in their order. An
    observation that is not usable, or too far away for a cell, has neither.
    """
    for i in range(len(found)):
        found[i], own[i] = -1, EMPTY
        if not usable(batch, i):
            continue
        target = batch.target[i]
        if 0 <= target < len(keys) and keys[target] >= 0:
            found[i] = target
            continue
        for submap in submaps:
            x, y, z = moved(into_local[submap], batch.means, i)
            own[i] = cell_key(submap, x, y, z, cell)
            if own[i] != EMPTY:
                found[i] = find(table.keys, table.places, own[i])
                if found[i] >= 0:
                    break


@exactly_compiled
def take_places(table, places, found, own, start, call):
    """Free places for the observations from `start` on that have none; where they ran out.

    Observations of one cell share a place.
    """
    for i in range(start, len(found)):
        if found[i] >= 0 or own[i] == EMPTY:
            continue
        place = find(table.keys, table.places, own[i])
        if place < 0:
            if places.free[0] == 0:
                return i
            places.free[0] -= 1
            place = places.unused[places.free[0]]
            clear(places, place)
            places.keys[place], places.born[place] = own[i], call
            insert(table.keys, table.places, own[i], place)
        found[i] = place
    return len(found)


@exactly_compiled
def clear(places, place):
    """Forget what a place held: the first to join it sets all."""
    places.means[place] = 0
    places.scales[place] = 0
    places.colors[place] = 0
    places.opacities[place] = 0
    places.weights[place] = 0
    places.sharpest[place] = 0
    places.ids[place] = -1
    places.sums[place] = 0
    places.instances[place] = -1
    places.votes[place] = 0


@exactly_compiled
def join_places(table, places, batch, found, numbers, into_local, poses, now, cell):
    """Fuse each observation into its place, in their order; `numbers` are objects of the map."""
    local = np.empty(3, np.float32)
    for i in range(len(found)):
        place = found[i]
        if place < 0:
            continue
        submap = places.keys[place] >> 48
        local[0], local[1], local[2] = moved(into_local[submap], batch.means, i)
        confidence = min(batch.confidence[i], np.float32(1))
        weight = places.weights[place]
        share = confidence / (weight + confidence)
        longest = batch.scales[i].max() / poses[submap, 0]
        if weight == 0 or near(places, place, local, longest, cell):
            join_shape(places, place, batch, i, local, poses[submap], confidence, share, now)
            settle(table, places, place, cell)
        for k in range(3):
            color = min(max(batch.colors[i, k], np.float32(0)), np.float32(1))
            places.colors[place, k] += share * (color - places.colors[place, k])
        opacity = min(max(batch.opacities[i], np.float32(0)), np.float32(1))
        places.opacities[place] += share * (opacity - places.opacities[place])
        places.weights[place] = min(weight + confidence, CAP)
        add_code(places.ids[place], places.sums[place], batch.ids[i], batch.weights[i], confidence)
        vote(places.instances, places.votes, place, numbers[i], confidence)
        places.seen[place] = now
        places.touched[place] = True


@exactly_compiled
def near(places, place, local, longest, cell):
    """Whether a point may move a place, and shape it."""
    squared = 0.0
    for k in range(3):
        squared += (local[k] - places.means[place, k]) ** 2
        longest = max(longest, places.scales[place, k])
    return squared <= max(3 * cell**2, (REACH * longest) ** 2)


@exactly_compiled
def join_shape(places, place, batch, i, local, pose, confidence, share, now):
    """Take a newcomer's part in position, sizes and rotation."""
    mean, scales, rotation = places.means[place], places.scales[place], places.quaternions_wxyz
    order, their_order = ranked(scales), ranked(batch.scales[i])
    variances = np.empty(3, np.float64)
    for k in range(3):
        theirs = max(batch.scales[i, their_order[k]] / pose[0], THINNEST)
        variances[k] = (1 - share) * scales[order[k]] ** 2 + share * theirs**2
    if confidence > places.sharpest[place]:
        places.sharpest[place], order = confidence, their_order
        w, x, y, z = turned(pose[1:5], batch.quaternions_wxyz[i], True)
        rotation[place, 0], rotation[place, 1] = w, x
        rotation[place, 2], rotation[place, 3] = y, z
    offset = (local[0] - mean[0], local[1] - mean[1], local[2] - mean[2])
    spread = along_axes(rotation[place], offset[0], offset[1], offset[2])
    together = places.seen[place] == now and share < 1
    for k in range(3):
        if together:
            variances[k] += share * (1 - share) * spread[order[k]] ** 2
        scales[order[k]] = np.sqrt(variances[k])
        mean[k] += share * offset[k]


@exactly_compiled
def settle(table, places, place, cell):
    """Find a place from now on in the cell where it lies, unless another one is found there."""
    old = places.keys[place]
    x, y, z = places.means[place, 0], places.means[place, 1], places.means[place, 2]
    key = cell_key(old >> 48, x, y, z, cell)
    if key != old and key != EMPTY and find(table.keys, table.places, key) < 0:
        delete(table.keys, table.places, old)
        insert(table.keys, table.places, key, place)
        places.keys[place] = key
