"""Small algebra of one Gaussian for kernels: points, quaternions (w, x, y, z), sizes by rank.

Vectors are tuples: arrays of three numbers would cost more than what is done with them.
"""

import math

from ffsplat.stream.map.compiled import lean


@lean
def triple(values, i):
    """A row of three as a tuple."""
    return values[i, 0], values[i, 1], values[i, 2]


@lean
def moved(matrices, number, point):
    """A point under one of several 3x4 matrices."""
    x, y, z = point
    m = matrices
    n = number
    return (
        m[n, 0, 0] * x + m[n, 0, 1] * y + m[n, 0, 2] * z + m[n, 0, 3],
        m[n, 1, 0] * x + m[n, 1, 1] * y + m[n, 1, 2] * z + m[n, 1, 3],
        m[n, 2, 0] * x + m[n, 2, 1] * y + m[n, 2, 2] * z + m[n, 2, 3],
    )


@lean
def product(a, b):
    """The Hamilton product, of unit length: the rotation b, then a."""
    w = a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3]
    x = a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2]
    y = a[0] * b[2] + a[2] * b[0] + a[3] * b[1] - a[1] * b[3]
    z = a[0] * b[3] + a[3] * b[0] + a[1] * b[2] - a[2] * b[1]
    length = math.sqrt(w * w + x * x + y * y + z * z)
    if not length > 0:
        return 1.0, 0.0, 0.0, 0.0
    return w / length, x / length, y / length, z / length


@lean
def along_axes(q, v):
    """The coordinates of a vector along the three axes of a rotation: R(q)^T v."""
    w, a, b, c = q
    x, y, z = v
    return (
        (1 - 2 * (b * b + c * c)) * x + 2 * (a * b + w * c) * y + 2 * (a * c - w * b) * z,
        2 * (a * b - w * c) * x + (1 - 2 * (a * a + c * c)) * y + 2 * (b * c + w * a) * z,
        2 * (a * c + w * b) * x + 2 * (b * c - w * a) * y + (1 - 2 * (a * a + b * b)) * z,
    )


@lean
def ranked(values):
    """The indices of three values, the largest first; ties go to the lower index."""
    a, b, c = values
    if b > a:
        if c > b:
            return 2, 1, 0
        return (1, 2, 0) if c > a else (1, 0, 2)
    if c > a:
        return 2, 0, 1
    return (0, 2, 1) if c > b else (0, 1, 2)


@lean
def quaternion(matrix, scale):
    """The unit quaternion of a matrix that is a rotation times this scale, w not negative.

    Of the four ways to divide, the one with the largest divisor (Shepperd, 1978).
    """
    m = matrix
    xx, yy, zz = m[0, 0] / scale, m[1, 1] / scale, m[2, 2] / scale
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] + m[1, 2]
    ww = scale * (1 + xx + yy + zz)
    x2, y2, z2 = scale * (1 + xx - yy - zz), scale * (1 - xx + yy - zz), scale * (1 - xx - yy + zz)
    if ww >= max(x2, y2, z2):
        q = (ww, wx, wy, wz)
    elif x2 >= max(y2, z2):
        q = (wx, x2, xy, xz)
    elif y2 >= z2:
        q = (wy, xy, y2, yz)
    else:
        q = (wz, xz, yz, z2)
    length = math.copysign(math.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2 + q[3] ** 2), q[0])
    return q[0] / length, q[1] / length, q[2] / length, q[3] / length
