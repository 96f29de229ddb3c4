"""From the pixels of one view to Gaussians and codes: what `merge` does for scenes, in one pass.

There each step makes a picture of its own; here every pixel is read once, and only if it is kept.
"""

import math
from typing import NamedTuple

import numpy as np

from ffsplat.geometric import ERROR_SCALE
from ffsplat.merge import SMOOTHING
from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.shape import along_axes, moved, product, triple

ZERO, ONE = np.float32(0), np.float32(1)


class Pixels(NamedTuple):
    """What a network says of all pixels of one view, in their order; see `Prediction`.

    `centres` is the depth of the Gaussians, which some networks tell apart from `depth`.
    """

    depth: np.ndarray
    centres: np.ndarray
    errors: np.ndarray
    offsets: np.ndarray
    scales: np.ndarray
    quaternions_wxyz: np.ndarray
    opacities: np.ndarray
    colors: np.ndarray


@lean
def lift(pixels, rows, width, lens, into_world, turn, scale, batch):
    """Write the Gaussians of some `Pixels` to a `Batch`: all but their meaning and their target.

    `lens` is (fx, fy, cx, cy) in pixels, `into_world` (1, 3, 4) is world_from_camera with its
    `scale`, `turn` its rotation (w, x, y, z). Sizes are those of `merge.smoothed`, confidence that
    of `pruning.confidences`.
    """
    fx, fy, cx, cy = lens
    for i in range(len(rows)):
        row = rows[i]
        x, y = (row % width + 0.5 - cx) / fx, (row // width + 0.5 - cy) / fy
        offsets, q = pixels.offsets, pixels.quaternions_wxyz
        z = pixels.centres[row]
        local = (x + offsets[row, 0] / fx) * z, (y + offsets[row, 1] / fy) * z, np.float64(z)
        point = moved(into_world, 0, local)
        rotation = q[row, 0], q[row, 1], q[row, 2], q[row, 3]
        turned = product(turn, rotation)
        sizes = triple(pixels.scales, row)
        footprint = pixels.depth[row] / fx
        thin = shortest(sizes)
        along = along_axes(rotation, (x, y, 1.0))[thin]
        across = max(0.0, 1 - along * along / (x * x + y * y + 1))
        for k in range(3):
            added = SMOOTHING * footprint * footprint * (across if k == thin else 1.0)
            batch.scales[i, k] = scale * math.sqrt(sizes[k] * sizes[k] + added)
            batch.means[i, k] = point[k]
            batch.colors[i, k] = min(max(pixels.colors[row, k], ZERO), ONE)
        for k in range(4):
            batch.quaternions_wxyz[i, k] = turned[k]
        batch.opacities[i] = pixels.opacities[row]
        batch.confidence[i] = math.exp(-pixels.errors[row] / ERROR_SCALE)


@lean
def shortest(values):
    """The index of the least of three values; ties go to the lower index."""
    a, b, c = values
    if a <= b and a <= c:
        return 0
    return 1 if b <= c else 2


@lean
def best_classes(logits, rows, numbers, share, first, last, ids, weights):
    """Write the best classes of some pixels, best first, to the columns from `first` to `last`.

    Class i has the ID `numbers[i]`; weights are `share` times the softmax over the best classes.
    Of equal logits the first counts. Columns without a class have ID -1 and weight 0.
    """
    for i in range(len(rows)):
        ids[i, first:last], weights[i, first:last] = -1, -np.inf
        least, line = weights[i, last - 1], logits[rows[i]]
        for one in range(min(len(numbers), len(line))):
            value = line[one]
            if value > least:
                place = last - 1
                while place > first and value > weights[i, place - 1]:
                    ids[i, place], weights[i, place] = ids[i, place - 1], weights[i, place - 1]
                    place -= 1
                ids[i, place], weights[i, place] = numbers[one], value
                least = weights[i, last - 1]
        most, total = weights[i, first], np.float32(0)
        for k in range(first, last):
            weights[i, k] = math.exp(weights[i, k] - most) if ids[i, k] >= 0 else 0
            total += weights[i, k]
        for k in range(first, last):
            weights[i, k] *= share / total if total > 0 else 0
