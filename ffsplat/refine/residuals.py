"""Residuals of matches, and what those of each pair of views say of a step: a loop for numba.

The covariance S = s^2 I + d^2 u u' of a match in the image holds its error s and, along the way
u = dr / dlog z that the target sees the point move with its depth, the error d that the network
expects of that depth: a match says where the epipolar line must pass even if its depth says little.

A block of matches keeps its numbers in *rows* of one flat array, one after another. Unsigned
indices, bounds that are not constants and one base array make LLVM vectorise (see `render.kernel`).
"""

import math
from functools import partial

import numpy as np
from jaxtyping import Float64

from ffsplat.compiled import exactly_compiled

DEPTH_ERRORS = 2.0
"""Standard deviation of log depth over its expected absolute error: that of a Laplace density is
1.4, and neighbours err together."""
AGREEMENT = 0.5
"""Standard deviation of the difference of two views' log depths."""
OUTLIER = 2.0
"""Standard deviations at which a residual counts half."""
NEAREST = 1e-3
"""Depth below which a point is behind a camera."""

U = np.uintp
BLOCK, GIVEN = U(64), U(8)
X, Y, Z, SEEN_X, SEEN_Y, SEEN_DEPTH, ERROR, TRUST = (U(row) * BLOCK for row in range(8))
POINT, ALONG, WEIGHT, JACOBIAN = (U(row) * BLOCK for row in (8, 11, 14, 17))
COLUMN, COLUMNS = U(3) * BLOCK, U(9)
TURN, MOVE, ZOOM, TARGET_ZOOM, RESIDUAL = (JACOBIAN + U(c) * COLUMN for c in (0, 3, 6, 7, 8))

# Sums may be taken in any order. All takes less than to get the interpreter back.
compiled = partial(exactly_compiled, nogil=False, fastmath={"reassoc", "contract", "nsz", "arcp"})


def sum_pairs(
    relative: Float64[np.ndarray, "p 4 4"],
    zooms: Float64[np.ndarray, "p 2"],
    matches: Float64[np.ndarray, "p 8 n"],
    error: float,
) -> Float64[np.ndarray, "p 9 9"]:
    """Sums over the matches of each pair of J' W J.

    J is the slopes of a match's place in the target and of its log depth there, by a twist of the
    points in the target's frame (rotation, translation) and by the log focal lengths of source and
    target; its last column is the residuals. W is S^-1 (see above) and 1 / AGREEMENT^2, times
    robust weights. `relative` is target_from_source, `zooms` are the logs of both focal lengths,
    `matches` are those of `Sightings`, and `error` is s, on rays with z = 1.
    """
    sums = np.zeros((len(matches), COLUMNS, COLUMNS))
    _sum_pairs(relative, zooms, matches, error, np.empty(JACOBIAN + COLUMNS * COLUMN), sums)
    return sums


@compiled
def _sum_pairs(relative, zooms, matches, error, block, sums):
    """Add J' W J of all matches, a block of them at a time."""
    count = U(matches.shape[2])
    for p in range(len(matches)):
        for first in range(U(0), count, BLOCK):
            size = min(BLOCK, count - first)
            for row in range(GIVEN):
                for i in range(size):
                    block[row * BLOCK + i] = matches[p, row, first + i]
            _locate(block, size, relative[p], math.exp(-zooms[p, 0]))
            _linearize(block, size, math.exp(zooms[p, 1]))
            _align(block, size)
            _weigh(block, size, error)
            _add_products(block, size, sums[p])


@compiled
def _locate(block, size, pose, shrink):
    """Points in the target's frame, and how they move there along their rays and by a zoom.

    The log depth that the target sees becomes that by which it is less than the point's.
    """
    for axis in range(U(3)):
        row = axis * BLOCK
        a, b, c = shrink * pose[axis, 0], shrink * pose[axis, 1], pose[axis, 2]
        move = pose[axis, 3]
        for i in range(size):
            across = a * block[X + i] + b * block[Y + i]
            along = across + c * block[Z + i]
            block[ZOOM + row + i] = -across
            block[ALONG + row + i] = along
            block[POINT + row + i] = along + move
    for i in range(size):
        _, _, z = _get(block, POINT, i)
        block[SEEN_DEPTH + i] = math.log(z if z > NEAREST else NEAREST) - block[SEEN_DEPTH + i]


@compiled
def _linearize(block, size, stretch):
    """The columns of J, and how the place changes as points move along their rays."""
    for i in range(size):
        x, y, z = _get(block, POINT, i)
        near = 1 / (z if z > NEAREST else NEAREST)
        lens = stretch * near
        u, v = lens * x, lens * y
        look = lens, near, u, v
        # The unit vector of each axis, crossed with the point; then the unit vectors themselves.
        _put(block, TURN, i, _seen(look, (0.0, -z, y)))
        _put(block, TURN + COLUMN, i, _seen(look, (z, 0.0, -x)))
        _put(block, TURN + U(2) * COLUMN, i, _seen(look, (-y, x, 0.0)))
        _put(block, MOVE, i, (lens, 0.0, 0.0))
        _put(block, MOVE + COLUMN, i, (0.0, lens, 0.0))
        _put(block, MOVE + U(2) * COLUMN, i, (-u * near, -v * near, near))
        _put(block, ZOOM, i, _seen(look, _get(block, ZOOM, i)))
        _put(block, TARGET_ZOOM, i, (u, v, 0.0))
        seen_u, seen_v, apart = _get(block, SEEN_X, i)
        _put(block, RESIDUAL, i, (u - seen_u, v - seen_v, apart))
        _put(block, ALONG, i, _seen(look, _get(block, ALONG, i)))
        block[TRUST + i] = block[TRUST + i] if z > NEAREST else 0.0


@compiled
def _align(block, size):
    """Turn the image of each match, to have its first axis along the ray: there S is diagonal."""
    for i in range(size):
        u, v, _ = _get(block, ALONG, i)
        length = math.sqrt(u * u + v * v)
        cosine, sine = (u / length, v / length) if length > 0 else (1.0, 0.0)
        _put(block, ALONG, i, (cosine, sine, length))
    for column in range(COLUMNS):
        row = JACOBIAN + column * COLUMN
        for i in range(size):
            x, y, depth = _get(block, row, i)
            cosine, sine, _ = _get(block, ALONG, i)
            _put(block, row, i, (cosine * x + sine * y, cosine * y - sine * x, depth))


@compiled
def _weigh(block, size, error):
    """The diagonal of W: inverse variances times the confidence, less for large residuals."""
    across = 1 / error**2
    for i in range(size):
        _, _, length = _get(block, ALONG, i)
        x, y, depth = _get(block, RESIDUAL, i)
        along = 1 / (error**2 + (length * DEPTH_ERRORS * block[ERROR + i]) ** 2)
        trusted = block[TRUST + i] / (1 + (along * x**2 + across * y**2) / OUTLIER**2)
        agreeing = trusted / (1 + depth**2 / (AGREEMENT * OUTLIER) ** 2)
        _put(block, WEIGHT, i, (trusted * along, trusted * across, agreeing / AGREEMENT**2))


@compiled
def _add_products(block, size, sums):
    """Add J' W J of a block; the columns of W J take the place of the points."""
    for a in range(COLUMNS):
        for i in range(size):
            x, y, depth = _get(block, JACOBIAN + a * COLUMN, i)
            along, across, agreeing = _get(block, WEIGHT, i)
            _put(block, X, i, (along * x, across * y, agreeing * depth))
        for b in range(a + U(1)):
            total = 0.0
            for i in range(size):
                left, right = _get(block, X, i), _get(block, JACOBIAN + b * COLUMN, i)
                total += left[0] * right[0] + left[1] * right[1] + left[2] * right[2]
            sums[a, b] += total
            sums[b, a] = sums[a, b]


@compiled
def _seen(look, move):
    """How the place and the log depth of a point change as it moves."""
    lens, near, u, v = look
    depth = move[2] * near
    return lens * move[0] - u * depth, lens * move[1] - v * depth, depth


@compiled
def _get(block, row, i):
    """The numbers of a match in three rows."""
    return block[row + i], block[row + BLOCK + i], block[row + U(2) * BLOCK + i]


@compiled
def _put(block, row, i, values):
    """Write the numbers of a match in three rows."""
    block[row + i], block[row + BLOCK + i], block[row + U(2) * BLOCK + i] = values
