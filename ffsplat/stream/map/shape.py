"""Small algebra of one Gaussian for kernels: quaternions (w, x, y, z) and sizes by rank."""

import numpy as np

from ffsplat.render.kernel import exactly_compiled


@exactly_compiled
def turned(a, b, conjugate):
    """The Hamilton product a b, or a* b: the rotation b, then a or its inverse; of unit length."""
    s = -1.0 if conjugate else 1.0
    w = a[0] * b[0] - s * (a[1] * b[1] + a[2] * b[2] + a[3] * b[3])
    x = a[0] * b[1] + s * (a[1] * b[0] + a[2] * b[3] - a[3] * b[2])
    y = a[0] * b[2] + s * (a[2] * b[0] + a[3] * b[1] - a[1] * b[3])
    z = a[0] * b[3] + s * (a[3] * b[0] + a[1] * b[2] - a[2] * b[1])
    length = np.sqrt(w * w + x * x + y * y + z * z)
    if not length > 0:
        return 1.0, 0.0, 0.0, 0.0
    return w / length, x / length, y / length, z / length


@exactly_compiled
def along_axes(q, x, y, z):
    """The coordinates of a vector along the three axes of a rotation: R(q)^T v."""
    w, a, b, c = q[0], q[1], q[2], q[3]
    first = (1 - 2 * (b * b + c * c)) * x + 2 * (a * b + w * c) * y + 2 * (a * c - w * b) * z
    second = 2 * (a * b - w * c) * x + (1 - 2 * (a * a + c * c)) * y + 2 * (b * c + w * a) * z
    third = 2 * (a * c + w * b) * x + 2 * (b * c - w * a) * y + (1 - 2 * (a * a + b * b)) * z
    return first, second, third


@exactly_compiled
def ranked(values):
    """The indices of three values, the largest first; ties go to the lower index."""
    first, second, third = 0, 1, 2
    if values[second] > values[first]:
        first, second = second, first
    if values[third] > values[first]:
        return third, first, second
    if values[third] > values[second]:
        return first, third, second
    return first, second, third
