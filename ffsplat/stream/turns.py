"""One rotation as a matrix and as a quaternion (w, x, y, z): `geometry` is for stacks of them.

Torch takes a tenth of a millisecond for one, and a stream has several a frame.
"""

import math

import numpy as np
from jaxtyping import Float64


def quaternion_of(rotation: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "4"]:
    """The unit quaternion of a rotation matrix.

    Of the four ways to divide, the one with the largest divisor.
    Source: Shepperd, "Quaternion from rotation matrix", 1978.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    squares = 1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz
    wx, wy, wz = zy - yz, xz - zx, yx - xy
    a, b, c = yx + xy, xz + zx, zy + yz
    rows = (
        (squares[0], wx, wy, wz),
        (wx, squares[1], a, b),
        (wy, a, squares[2], c),
        (wz, b, c, squares[3]),
    )
    best = rows[squares.index(max(squares))]
    length = math.hypot(*best)
    return np.array([one / length for one in best])


def rotation_of(quaternion: Float64[np.ndarray, "4"]) -> Float64[np.ndarray, "3 3"]:
    """The rotation matrix of a unit quaternion."""
    w, x, y, z = quaternion.tolist()
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
