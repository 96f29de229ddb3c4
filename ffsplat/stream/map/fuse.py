"""Observations join the places that they belong to: a running mean weighted by confidence.

A place takes on colour by the share of the newcomer in all the confidence that it has, which is
capped so that the map follows what changes. For position and shape confidence is over area, the
cost by which `consistency.agreement` chooses: who sees from near knows better, and a look from afar
must not blur. Shapes are averaged as variances by rank - the longest axis with the longest -
because two networks, or two views, may call one axis of a disc by different names, and their noise
would make it thick; the rotation is that of the most confident observation. What joins a place at
one moment lies side by side on one surface, so its spread widens the place (moment matching:
Runnalls, IEEE TAES 43(3), 2007); what joins at different moments is one thing seen twice, and noise
must not widen it.
"""

import math

import numpy as np

from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.instances import vote
from ffsplat.stream.map.pairs import CAP, add_code
from ffsplat.stream.map.places import SLOTS
from ffsplat.stream.map.shape import along_axes, moved, product, ranked, triple
from ffsplat.stream.map.table import EMPTY, cell_key, delete, find, insert

REACH = 3.0
"""Standard deviations of the larger one between two Gaussians that may become one in shape; at any
rate those of one cell may. Of one from farther away only confidence, colour and meaning count."""

ONE = np.float32(1)
THINNEST, WIDEST = 1e-9, 65504.0
"""Standard deviations that an observation has at least and at most, in the unit of its submap."""


@lean
def find_places(table, keys, target, means, usable, into_local, submaps, cell, found, own):
    """The place of each observation, -1 for none, and its key in the last of the submaps.

    First its target, if that is alive, then its cells in the submaps, in their order. An
    observation that is not usable, or too far away for a cell, has neither.
    """
    slots, occupants = table
    for i in range(len(found)):
        there = usable[i] and 0 <= target[i] < len(keys) and keys[target[i]] >= 0
        found[i] = target[i] if there else -1
    for submap in submaps:
        # Keys first: then many searches wait for memory at the same time, in half the time.
        for i in range(len(found)):
            x, y, z = moved(into_local, submap, triple(means, i))
            own[i] = cell_key(submap, x, y, z, cell) if usable[i] else EMPTY
        for i in range(len(found)):
            if found[i] < 0 and own[i] != EMPTY:
                found[i] = find(slots, occupants, own[i])


@lean
def find_valid(keys, born, places, clock, valid):
    """Mark those places that hold something and held it at a call of `fuse` already."""
    for i in range(len(places)):
        place = places[i]
        valid[i] = 0 <= place < len(keys) and keys[place] >= 0 and born[place] <= clock


@lean
def take_places(table, places, found, own, start, call):
    """Free places for the observations from `start` on that have none; where they ran out.

    Observations of one cell share a place.
    """
    slots, occupants = table
    keys, born, unused, free = places.keys, places.born, places.unused, places.free
    for i in range(start, len(found)):
        if found[i] >= 0 or own[i] == EMPTY:
            continue
        place = find(slots, occupants, own[i])
        if place < 0:
            if free[0] == 0:
                return i
            free[0] -= 1
            place = unused[free[0]]
            clear(places, place)
            keys[place], born[place] = own[i], call
            insert(slots, occupants, own[i], place)
        found[i] = place
    return len(found)


@lean
def clear(places, place):
    """Forget what a place held: the first to join it sets all."""
    for k in range(3):
        places.means[place, k] = places.scales[place, k] = places.colors[place, k] = 0
    places.opacities[place] = places.weights[place] = places.sharpest[place] = 0
    for k in range(SLOTS):
        places.ids[place, k], places.sums[place, k] = -1, 0
    places.instances[place], places.votes[place] = -1, 0


@lean
def join_shapes(table, places, batch, found, into_local, poses, now, cell):
    """Fuse position, shape, colour and opacity of each observation into its place, in order."""
    keys, weights, colors, opacities = places.keys, places.weights, places.colors, places.opacities
    for i in range(len(found)):
        place = found[i]
        if place < 0:
            continue
        submap = keys[place] >> 48
        scale = poses[submap, 0]
        local = moved(into_local, submap, triple(batch.means, i))
        a, b, c = triple(batch.scales, i)
        sizes = bounded(a / scale), bounded(b / scale), bounded(c / scale)
        confidence = min(batch.confidence[i], ONE)
        share = confidence / (weights[place] + confidence)
        if share == 1 or near(places.means, places.scales, place, local, sizes, cell):
            if confidence > places.sharpest[place]:
                turn_place(places, place, poses, submap, batch.quaternions_wxyz, i, sizes)
                places.sharpest[place] = confidence
            together = places.seen[place] == now and share < 1
            own = triple(places.scales, place)
            finer = area(own, cell) / area(sizes, cell)
            precise = confidence * finer / (weights[place] + confidence * finer)
            join_shape(places, place, local, sizes, precise, together)
            settle(table.keys, table.places, keys, places.means, place, cell)
        for k in range(3):
            colors[place, k] += share * (unit(batch.colors[i, k]) - colors[place, k])
        opacities[place] += share * (unit(batch.opacities[i]) - opacities[place])
        weights[place] = min(weights[place] + confidence, CAP)
        places.seen[place] = now
        places.touched[place] = True


@lean
def bounded(size):
    """A standard deviation within bounds."""
    return min(max(size, THINNEST), WIDEST)


@lean
def unit(value):
    """A number clipped to [0, 1]."""
    return min(max(value, np.float32(0)), ONE)


@lean
def area(sizes, cell):
    """What a Gaussian covers, at least its part of a cell: none is more precise than that."""
    order = ranked(sizes)
    return max(np.float64(sizes[order[0]]) * sizes[order[1]], 0.25 * cell**2)


@lean
def near(means, scales, place, local, sizes, cell):
    """Whether a point may move a place, and shape it."""
    longest = max(sizes[0], sizes[1], sizes[2])
    squared = 0.0
    for k in range(3):
        squared += (local[k] - means[place, k]) ** 2
        longest = max(longest, scales[place, k])
    return squared <= max(3 * cell**2, (REACH * longest) ** 2)


@lean
def turn_place(places, place, poses, submap, quaternions, i, sizes):
    """Give a place the rotation of an observation; its longest axis becomes theirs."""
    rotations, scales = places.quaternions_wxyz, places.scales
    back = poses[submap, 1], -poses[submap, 2], -poses[submap, 3], -poses[submap, 4]
    theirs = quaternions[i, 0], quaternions[i, 1], quaternions[i, 2], quaternions[i, 3]
    q = product(back, theirs)
    own = triple(scales, place)
    order, their_order = ranked(own), ranked(sizes)
    for k in range(3):
        fresh = own[order[0]] == 0
        scales[place, their_order[k]] = sizes[their_order[k]] if fresh else own[order[k]]
    for k in range(4):
        rotations[place, k] = q[k]


@lean
def join_shape(places, place, local, sizes, share, together):
    """Take a newcomer's part in position and sizes, and in the spread of those that came before."""
    means, scales, rotations = places.means, places.scales, places.quaternions_wxyz
    own, mean = triple(scales, place), triple(means, place)
    order, their_order = ranked(own), ranked(sizes)
    offset = local[0] - mean[0], local[1] - mean[1], local[2] - mean[2]
    spread = (0.0, 0.0, 0.0)
    if together:
        r = rotations
        q = r[place, 0], r[place, 1], r[place, 2], r[place, 3]
        spread = along_axes(q, offset)
    for k in range(3):
        axis = order[k]
        variance = (1 - share) * own[axis] ** 2 + share * sizes[their_order[k]] ** 2
        scales[place, axis] = math.sqrt(variance + share * (1 - share) * spread[axis] ** 2)
        means[place, k] += share * offset[k]


@lean
def settle(table_keys, table_places, keys, means, place, cell):
    """Find a place from now on in the cell where it lies, unless another one is found there."""
    old = keys[place]
    x, y, z = triple(means, place)
    key = cell_key(old >> 48, x, y, z, cell)
    if key != old and key != EMPTY and find(table_keys, table_places, key) < 0:
        delete(table_keys, table_places, old)
        insert(table_keys, table_places, key, place)
        keys[place] = key


@lean
def join_meanings(places, batch, found, numbers):
    """Fuse code and instance of each observation into its place; `numbers` are the map's."""
    ids, sums, instances, votes = places.ids, places.sums, places.instances, places.votes
    for i in range(len(found)):
        if found[i] >= 0:
            confidence = min(batch.confidence[i], ONE)
            add_code(ids, sums, found[i], batch.ids, batch.weights, i, confidence)
            vote(instances, votes, found[i], numbers[i], confidence)
