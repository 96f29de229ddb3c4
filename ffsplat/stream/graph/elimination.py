"""Sparse symmetric systems of small blocks, solved by taking out one block after the other.

A graph of poses is a chain with some loops, which has no structure to a dense solver. The block
with the fewest neighbours goes first (Tinney and Walker, "Direct solutions of sparse network
equations by optimally ordered triangular factorization", Proc. IEEE 55, 1967): of a chain, each
then costs as much as two neighbours do, whatever its length.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from ffsplat.stream.map.compiled import lean


class Order(NamedTuple):
    """The order in which the n blocks of a system are taken out, and where its matrix is kept.

    `sequence` are the blocks in that order, `place` is where each stands in it. Those beside the
    one that goes k-th, and later than it, are `neighbors[k, :degrees[k]]`. `slots[i, j]` is the
    number under which block (i, j) is kept, -1 if it is zero: once for both ways, in the rows of
    the one that goes first.
    """

    sequence: np.ndarray
    place: np.ndarray
    neighbors: np.ndarray
    degrees: np.ndarray
    slots: np.ndarray

    def empty(self, size: int) -> Float64[np.ndarray, "kept k k"]:
        """Room for all blocks that are kept, of this size: zeros."""
        return np.zeros((int(self.slots.max(initial=-1)) + 1, size, size))


def elimination_order(adjacent: Bool[np.ndarray, "n n"]) -> Order:
    """A way to take out the blocks of a system in which these are not zero.

    `adjacent` is symmetric; its diagonal does not matter.
    """
    n = len(adjacent)
    beside = adjacent & ~np.eye(n, dtype=bool)
    sequence, place, degrees = np.empty((3, n), np.int64)
    neighbors, slots = np.full((2, n, n), -1, np.int32)
    order = Order(sequence, place, neighbors, degrees, slots)
    choose_order(beside, beside.sum(1), order)
    return order


@lean
def choose_order(beside, left, order):
    """Write an `Order`; `left` are the numbers of neighbours, and both it and `beside` are used up.

    Whoever goes makes neighbours of all that were beside it. Ties go to the lower number.
    """
    n, kept = len(beside), 0
    for step in range(n):
        first = -1
        for i in range(n):
            if left[i] >= 0 and (first < 0 or left[i] < left[first]):
                first = i
        order.sequence[step], order.place[first] = first, step
        degree = 0
        for j in range(n):
            if j == first or beside[first, j]:
                order.slots[first, j] = order.slots[j, first] = kept
                kept += 1
            if beside[first, j]:
                order.neighbors[step, degree] = j
                degree += 1
        order.degrees[step] = degree
        left[first] = -1
        for a in range(degree):
            i = order.neighbors[step, a]
            beside[i, first] = False
            left[i] -= 1
            for b in range(degree):
                j = order.neighbors[step, b]
                if j != i and not beside[i, j]:
                    beside[i, j] = True
                    left[i] += 1


def solve(
    order: Order, matrix: Float64[np.ndarray, "kept k k"], vector: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, "n k"]:
    """The solution x of sum over j of block (i, j) x[j] = vector[i]; both arrays are used up.

    The system is symmetric and positive definite. Raises LinAlgError if it is not.
    """
    if not take_out(order, matrix, vector):
        raise np.linalg.LinAlgError("the system is not positive definite")
    put_back(order, matrix, vector)
    return vector


@lean
def take_out(order, matrix, vector):
    """Cholesky's factors in place of the matrix, and the solution of the lower ones; if it is one.

    George and Liu, "Computer Solution of Large Sparse Positive Definite Systems", 1981, chapter 2.
    """
    size = vector.shape[1]
    for step in range(len(vector)):
        first, degree = order.sequence[step], order.degrees[step]
        pivot = matrix[order.slots[first, first]]
        if not factor(pivot):
            return False
        lower(pivot, vector[first])
        for a in range(degree):
            i = order.neighbors[step, a]
            side = matrix[order.slots[first, i]]
            for column in range(size):
                lower(pivot, side[:, column])
            for row in range(size):
                for column in range(size):
                    vector[i, column] -= side[row, column] * vector[first, row]
            for b in range(a + 1):
                j = order.neighbors[step, b]
                target = matrix[order.slots[i, j]]
                if order.place[i] <= order.place[j]:
                    subtract(target, side, matrix[order.slots[first, j]])
                else:
                    subtract(target, matrix[order.slots[first, j]], side)
    return True


@lean
def put_back(order, matrix, vector):
    """The solution of the upper factors, the last block first."""
    size = vector.shape[1]
    for step in range(len(vector) - 1, -1, -1):
        first = order.sequence[step]
        for a in range(order.degrees[step]):
            i = order.neighbors[step, a]
            side = matrix[order.slots[first, i]]
            for row in range(size):
                for column in range(size):
                    vector[first, row] -= side[row, column] * vector[i, column]
        pivot = matrix[order.slots[first, first]]
        for row in range(size - 1, -1, -1):
            for later in range(row + 1, size):
                vector[first, row] -= pivot[later, row] * vector[first, later]
            vector[first, row] /= pivot[row, row]


@lean
def factor(block):
    """The lower factor of a symmetric block, in its place; False if it has none."""
    for i in range(len(block)):
        for j in range(i + 1):
            value = block[i, j]
            for k in range(j):
                value -= block[i, k] * block[j, k]
            if j < i:
                block[i, j] = value / block[j, j]
            elif value > 0:
                block[i, i] = math.sqrt(value)
            else:
                return False
    return True


@lean
def lower(pivot, values):
    """Solve for one column by a lower factor, in its place."""
    for i in range(len(values)):
        for k in range(i):
            values[i] -= pivot[i, k] * values[k]
        values[i] /= pivot[i, i]


@lean
def subtract(target, a, b):
    """Take the product of a transposed block and another away."""
    size = len(target)
    for k in range(size):
        for i in range(size):
            for j in range(size):
                target[i, j] -= a[k, i] * b[k, j]
