"""Sim(3) one element at a time, for kernels: 4x4 matrices [s R, t; 0, 1] and tangents of 7 numbers.

A tangent is (rotation vector 3, translation 3, log scale 1); `sim3` has the same for stacks, and
the sources. All functions write to the arrays that they are given last.
"""

import math

from ffsplat.stream.map.compiled import lean
from ffsplat.stream.map.shape import quaternion

SERIES = 1e-2
"""Size of a rate below which its mean growth is a series: it is exact to 16 digits there."""


@lean
def mean_growth(a, b):
    """The mean of exp((a + i b) x) for x in [0, 1], as real and imaginary part."""
    if a * a + b * b < SERIES * SERIES:
        real, imaginary = 1.0, 0.0
        for n in (7, 6, 5, 4, 3, 2):  # Horner's scheme for the sum of rate^(n - 1) / n!
            real, imaginary = 1 + (a * real - b * imaginary) / n, (a * imaginary + b * real) / n
        return real, imaginary
    half = math.sin(b / 2)
    real, imaginary = math.expm1(a) * math.cos(b) - 2 * half * half, math.exp(a) * math.sin(b)
    squared = a * a + b * b
    return (real * a + imaginary * b) / squared, (imaginary * a - real * b) / squared


@lean
def act(along, real, imaginary, axis, vector):
    """`along` on the part of a vector along an axis, a complex number on the part across it."""
    x, y, z = axis
    u, v, w = vector
    part = (along - real) * (x * u + y * v + z * w)
    return (
        real * u + part * x + imaginary * (y * w - z * v),
        real * v + part * y + imaginary * (z * u - x * w),
        real * w + part * z + imaginary * (x * v - y * u),
    )


@lean
def exponential(tangent, matrix):
    """The group element of a tangent."""
    a, b, c = tangent[0], tangent[1], tangent[2]
    angle = math.sqrt(a * a + b * b + c * c)
    axis = (0.0, 0.0, 1.0) if angle < 1e-12 else (a / angle, b / angle, c / angle)
    scale = math.exp(tangent[6])
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    for k in range(3):
        unit = (1.0 if k == 0 else 0.0, 1.0 if k == 1 else 0.0, 1.0 if k == 2 else 0.0)
        column = act(scale, cosine, sine, axis, unit)
        matrix[0, k], matrix[1, k], matrix[2, k] = column
    along, _ = mean_growth(tangent[6], 0.0)
    real, imaginary = mean_growth(tangent[6], angle)
    move = act(along, real, imaginary, axis, (tangent[3], tangent[4], tangent[5]))
    matrix[0, 3], matrix[1, 3], matrix[2, 3] = move
    matrix[3, 0] = matrix[3, 1] = matrix[3, 2] = 0
    matrix[3, 3] = 1


@lean
def logarithm(matrix, tangent):
    """The tangent of a group element, with a rotation vector of length up to pi."""
    m = matrix
    det = (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )
    log_scale = math.log(det) / 3
    w, x, y, z = quaternion(matrix, math.exp(log_scale))
    sine = math.sqrt(x * x + y * y + z * z)
    angle = 2 * math.atan2(sine, w)
    axis = (0.0, 0.0, 1.0) if sine < 1e-12 else (x / sine, y / sine, z / sine)
    along, _ = mean_growth(log_scale, 0.0)
    real, imaginary = mean_growth(log_scale, angle)
    squared = real * real + imaginary * imaginary
    move = act(1 / along, real / squared, -imaginary / squared, axis, (m[0, 3], m[1, 3], m[2, 3]))
    for k in range(3):
        tangent[k] = angle * axis[k]
        tangent[3 + k] = move[k]
    tangent[6] = log_scale


@lean
def multiply(a, b, product):
    """The product of two matrices."""
    product[:] = 0
    add_product(a, b, product)


@lean
def add_product(a, b, total):
    """Add the product of two matrices."""
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            left = a[i, k]
            for j in range(b.shape[1]):
                total[i, j] += left * b[k, j]


@lean
def invert(matrix, inverse):
    """The inverse element; that of s R is its transpose over s^2."""
    squared = 0.0
    for i in range(3):
        for j in range(3):
            squared += matrix[i, j] ** 2 / 3
    for i in range(3):
        inverse[3, i] = 0
        inverse[i, 3] = 0
        for j in range(3):
            inverse[i, j] = matrix[j, i] / squared
            inverse[i, 3] -= inverse[i, j] * matrix[j, 3]
    inverse[3, 3] = 1


@lean
def write_cross(block, x, y, z):
    """Write the matrix K with K u = (x, y, z) x u."""
    block[0, 0] = block[1, 1] = block[2, 2] = 0
    block[0, 1], block[0, 2], block[1, 2] = -z, y, -x
    block[1, 0], block[2, 0], block[2, 1] = z, -y, x


@lean
def adjoint(matrix, found):
    """Ad(S) with S exp(x) = exp(Ad(S) x) S."""
    squared = 0.0
    for i in range(3):
        for j in range(3):
            squared += matrix[i, j] ** 2 / 3
    scale = math.sqrt(squared)
    found[:] = 0
    x, y, z = matrix[0, 3], matrix[1, 3], matrix[2, 3]
    for j in range(3):
        u, v, w = matrix[0, j], matrix[1, j], matrix[2, j]
        found[0, j], found[1, j], found[2, j] = u / scale, v / scale, w / scale
        found[3, 3 + j], found[4, 3 + j], found[5, 3 + j] = u, v, w
        found[3, j] = (y * w - z * v) / scale
        found[4, j] = (z * u - x * w) / scale
        found[5, j] = (x * v - y * u) / scale
    found[3, 6], found[4, 6], found[5, 6] = -x, -y, -z
    found[6, 6] = 1


@lean
def inverse_right_jacobian(tangent, bracket, squared, found):
    """J with log(exp(r) exp(x)) = r + J x for small x; `bracket` and `squared` are room for 7x7.

    The series of Bernoulli numbers up to the fourth power.
    """
    bracket[:] = 0
    write_cross(bracket[:3, :3], tangent[0], tangent[1], tangent[2])
    write_cross(bracket[3:6, 3:6], tangent[0], tangent[1], tangent[2])
    write_cross(bracket[3:6, :3], tangent[3], tangent[4], tangent[5])
    for k in range(3):
        bracket[3 + k, 3 + k] = tangent[6]
        bracket[3 + k, 6] = -tangent[3 + k]
    multiply(bracket, bracket, squared)
    multiply(squared, squared, found)
    for i in range(7):
        for j in range(7):
            found[i, j] = bracket[i, j] / 2 + squared[i, j] / 12 - found[i, j] / 720
        found[i, i] += 1
