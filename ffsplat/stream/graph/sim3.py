"""Sim(3) as a Lie group: stacks of 4x4 matrices [s R, t; 0, 1] and their tangents, in float64.

A tangent is (rotation vector 3, translation 3, log scale 1), in this order. Sources: Strasdat,
Montiel and Davison, "Scale drift-aware large scale monocular SLAM", RSS 2010; Sola, Deray and
Atchuthan, "A micro Lie theory for state estimation in robotics", 2018.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Complex128, Float64

from ffsplat.alignment import Similarity
from ffsplat.geometry import (
    matrix_from_quaternion,
    quaternion_from_matrix,
    rotation_from_vector,
    vector_from_rotation,
)

DIMENSIONS = 7


def matrices(similarities: Iterable[Similarity]) -> Float64[np.ndarray, "n 4 4"]:
    """Similarities as a stack of 4x4 matrices."""
    listed = list(similarities)
    stack = np.tile(np.eye(4), (len(listed), 1, 1))
    for matrix, one in zip(stack, listed, strict=True):
        matrix[:3, :3], matrix[:3, 3] = one.scale * one.rotation, one.translation
    return stack


def similarity(matrix: Float64[np.ndarray, "4 4"]) -> Similarity:
    """The similarity of a 4x4 matrix; its rotation is the orthogonal one next to what is there."""
    left, spread, right = np.linalg.svd(matrix[:3, :3])
    return Similarity(float(np.cbrt(spread.prod())), left @ right, matrix[:3, 3].copy())


def rows(similarities: Iterable[Similarity]) -> Float64[np.ndarray, "n 8"]:
    """Similarities as (scale, quaternion wxyz, translation), as a `MapDelta` has them."""
    listed = list(similarities)
    if not listed:
        return np.zeros((0, 8))
    turns = torch.from_numpy(np.stack([one.rotation for one in listed]))
    scales = np.array([[one.scale] for one in listed])
    moves = np.stack([one.translation for one in listed])
    return np.concatenate([scales, quaternion_from_matrix(turns).numpy(), moves], axis=1)


def from_rows(table: Float64[np.ndarray, "n 8"]) -> list[Similarity]:
    """What `rows` made a table of."""
    turns = matrix_from_quaternion(torch.from_numpy(table[:, 1:5].copy())).numpy()
    parts = zip(table[:, 0], turns, table[:, 5:], strict=True)
    return [Similarity(float(scale), turn, move.copy()) for scale, turn, move in parts]


def exponential(tangents: Float64[np.ndarray, "n 7"]) -> Float64[np.ndarray, "n 4 4"]:
    """The group elements of tangents. Source: Strasdat et al., 2010."""
    turns, log_scales = tangents[:, :3], tangents[:, 6]
    stack = np.tile(np.eye(4), (len(tangents), 1, 1))
    rotations = rotation_from_vector(torch.from_numpy(turns.copy())).numpy()
    stack[:, :3, :3] = np.exp(log_scales)[:, None, None] * rotations
    velocity = _function(_mean_growth, log_scales, turns)
    stack[:, :3, 3] = (velocity @ tangents[:, 3:6, None])[..., 0]
    return stack


def logarithm(stack: Float64[np.ndarray, "n 4 4"]) -> Float64[np.ndarray, "n 7"]:
    """The tangents of group elements, with rotation vectors of length up to pi."""
    scales = np.cbrt(np.linalg.det(stack[:, :3, :3]))
    rotations = torch.from_numpy(stack[:, :3, :3] / scales[:, None, None])
    turns = vector_from_rotation(rotations).numpy()
    velocity = _function(lambda rates: 1 / _mean_growth(rates), np.log(scales), turns)
    moves = (velocity @ stack[:, :3, 3:])[..., 0]
    return np.concatenate([turns, moves, np.log(scales)[:, None]], axis=1)


def inverse(stack: Float64[np.ndarray, "n 4 4"]) -> Float64[np.ndarray, "n 4 4"]:
    """The inverse elements; the inverse of s R is its transpose over s^2."""
    undone = np.tile(np.eye(4), (len(stack), 1, 1))
    squares = np.square(stack[:, :3, :3]).sum((1, 2)) / 3
    undone[:, :3, :3] = stack[:, :3, :3].transpose(0, 2, 1) / squares[:, None, None]
    undone[:, :3, 3:] = -undone[:, :3, :3] @ stack[:, :3, 3:]
    return undone


def adjoint(stack: Float64[np.ndarray, "n 4 4"]) -> Float64[np.ndarray, "n 7 7"]:
    """Ad(S) with S exp(x) = exp(Ad(S) x) S."""
    grown, moves = stack[:, :3, :3], stack[:, :3, 3]
    scales = np.cbrt(np.linalg.det(grown))[:, None, None]
    result = np.zeros((len(stack), DIMENSIONS, DIMENSIONS))
    result[:, :3, :3] = grown / scales
    result[:, 3:6, :3] = cross(moves) @ grown / scales
    result[:, 3:6, 3:6] = grown
    result[:, 3:6, 6] = -moves
    result[:, 6, 6] = 1
    return result


def inverse_right_jacobian(tangents: Float64[np.ndarray, "n 7"]) -> Float64[np.ndarray, "n 7 7"]:
    """J with log(exp(r) exp(x)) = r + J x for small x.

    The series of Bernoulli numbers up to the fourth power: at a turn of 1 radian it is off by
    4e-5. Source: Barfoot, "State Estimation for Robotics", 2017, chapter 7.
    """
    small = _bracket(tangents)
    squared = small @ small
    return np.eye(DIMENSIONS) + small / 2 + squared / 12 - squared @ squared / 720


def cross(vectors: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3 3"]:
    """The matrices K with K u = vector x u."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)


def _bracket(tangents: Float64[np.ndarray, "n 7"]) -> Float64[np.ndarray, "n 7 7"]:
    """The matrix of the Lie bracket with each tangent, the derivative of `adjoint` at zero."""
    turns = cross(tangents[:, :3])
    result = np.zeros((len(tangents), DIMENSIONS, DIMENSIONS))
    result[:, :3, :3] = turns
    result[:, 3:6, :3] = cross(tangents[:, 3:6])
    result[:, 3:6, 3:6] = turns + tangents[:, 6, None, None] * np.eye(3)
    result[:, 3:6, 6] = -tangents[:, 3:6]
    return result


def _mean_growth(rates: Complex128[np.ndarray, " n"]) -> Complex128[np.ndarray, " n"]:
    """The mean of exp(rate x) for x in [0, 1]."""
    small = np.abs(rates) < 1e-8
    safe = np.where(small, 1, rates)
    return np.where(small, 1 + rates / 2, np.expm1(safe) / safe)


def _function(
    function: Callable[[Complex128[np.ndarray, " n"]], Complex128[np.ndarray, " n"]],
    log_scales: Float64[np.ndarray, " n"],
    turns: Float64[np.ndarray, "n 3"],
) -> Float64[np.ndarray, "n 3 3"]:
    """An analytic function of the matrices log_scale I + turn x, by their eigenvalues.

    These are the log scale along the axis, and log scale +- i angle across it, where a complex
    number a + i b acts as the matrix a I + b axis x.
    """
    angles = np.linalg.norm(turns, axis=1)
    still = angles < 1e-12
    axes = np.where(still[:, None], [0.0, 0.0, 1.0], turns / np.where(still, 1, angles)[:, None])
    along = np.real(function(log_scales.astype(np.complex128)))[:, None, None]
    across = function(log_scales + 1j * angles)[:, None, None]
    onto = axes[:, :, None] * axes[:, None]
    return along * onto + np.real(across) * (np.eye(3) - onto) + np.imag(across) * cross(axes)
