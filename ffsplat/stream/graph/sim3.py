"""Sim(3) as a Lie group: stacks of 4x4 matrices [s R, t; 0, 1] and their tangents, in float64.

A tangent is (rotation vector 3, translation 3, log scale 1), in this order. Sources: Strasdat,
Montiel and Davison, "Scale drift-aware large scale monocular SLAM", RSS 2010; Sola, Deray and
Atchuthan, "A micro Lie theory for state estimation in robotics", 2018.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64

from ffsplat.alignment import Similarity
from ffsplat.stream.graph import lie
from ffsplat.stream.map.compiled import lean

DIMENSIONS = 7


def matrices(similarities: Iterable[Similarity]) -> Float64[np.ndarray, "n 4 4"]:
    """Similarities as a stack of 4x4 matrices."""
    listed = list(similarities)
    stack = np.tile(np.eye(4), (len(listed), 1, 1))
    if listed:
        scales = np.array([one.scale for one in listed])
        stack[:, :3, :3] = scales[:, None, None] * np.array([one.rotation for one in listed])
        stack[:, :3, 3] = [one.translation for one in listed]
    return stack


def similarity(matrix: Float64[np.ndarray, "4 4"]) -> Similarity:
    """The similarity of a 4x4 matrix; its rotation is the orthogonal one next to what is there."""
    return similarities(matrix[None])[0]


def similarities(stack: Float64[np.ndarray, "n 4 4"]) -> list[Similarity]:
    """`similarity` of each."""
    left, spread, right = np.linalg.svd(stack[:, :3, :3])
    parts = zip(np.cbrt(spread.prod(1)), left @ right, stack[:, :3, 3].copy(), strict=True)
    return [Similarity(float(scale), turn, move) for scale, turn, move in parts]


def rows(similarities: Iterable[Similarity]) -> Float64[np.ndarray, "n 13"]:
    """Similarities as (scale, rotation by rows, translation), to the last bit."""
    parts = [[one.scale, *one.rotation.ravel(), *one.translation] for one in similarities]
    return np.array(parts, np.float64).reshape(-1, 13)


def from_rows(table: Float64[np.ndarray, "n 13"]) -> list[Similarity]:
    """What `rows` made a table of."""
    return [
        Similarity(float(row[0]), row[1:10].reshape(3, 3).copy(), row[10:].copy()) for row in table
    ]


def exponential(tangents: Float64[np.ndarray, "n 7"]) -> Float64[np.ndarray, "n 4 4"]:
    """The group elements of tangents. Source: Strasdat et al., 2010."""
    stack = np.empty((len(tangents), 4, 4))
    all_exponential(_whole(tangents), stack)
    return stack


def logarithm(stack: Float64[np.ndarray, "n 4 4"]) -> Float64[np.ndarray, "n 7"]:
    """The tangents of group elements, with rotation vectors of length up to pi."""
    tangents = np.empty((len(stack), DIMENSIONS))
    all_logarithm(_whole(stack), tangents)
    return tangents


def inverse(stack: Float64[np.ndarray, "n 4 4"]) -> Float64[np.ndarray, "n 4 4"]:
    """The inverse elements; the inverse of s R is its transpose over s^2."""
    undone = np.empty(stack.shape)
    all_inverse(_whole(stack), undone)
    return undone


def adjoint(stack: Float64[np.ndarray, "n 4 4"]) -> Float64[np.ndarray, "n 7 7"]:
    """Ad(S) with S exp(x) = exp(Ad(S) x) S."""
    result = np.empty((len(stack), DIMENSIONS, DIMENSIONS))
    all_adjoint(_whole(stack), result)
    return result


def inverse_right_jacobian(tangents: Float64[np.ndarray, "n 7"]) -> Float64[np.ndarray, "n 7 7"]:
    """J with log(exp(r) exp(x)) = r + J x for small x.

    The series of Bernoulli numbers up to the fourth power: at a turn of 1 radian it is off by
    4e-5. Source: Barfoot, "State Estimation for Robotics", 2017, chapter 7.
    """
    bracket, squared = np.empty((2, DIMENSIONS, DIMENSIONS))
    result = np.empty((len(tangents), DIMENSIONS, DIMENSIONS))
    all_jacobian(_whole(tangents), bracket, squared, result)
    return result


@lean
def all_exponential(tangents, stack):
    """`lie.exponential` of each."""
    for i in range(len(tangents)):
        lie.exponential(tangents[i], stack[i])


@lean
def all_logarithm(stack, tangents):
    """`lie.logarithm` of each."""
    for i in range(len(stack)):
        lie.logarithm(stack[i], tangents[i])


@lean
def all_inverse(stack, undone):
    """`lie.invert` of each."""
    for i in range(len(stack)):
        lie.invert(stack[i], undone[i])


@lean
def all_adjoint(stack, result):
    """`lie.adjoint` of each."""
    for i in range(len(stack)):
        lie.adjoint(stack[i], result[i])


@lean
def all_jacobian(tangents, bracket, squared, result):
    """`lie.inverse_right_jacobian` of each; `bracket` and `squared` are room for 7x7."""
    for i in range(len(tangents)):
        lie.inverse_right_jacobian(tangents[i], bracket, squared, result[i])


def _whole(stack: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    """The one kind of array that kernels are compiled for."""
    return np.require(stack, requirements=["C", "W"])
