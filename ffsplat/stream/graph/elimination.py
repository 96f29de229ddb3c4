"""Sparse symmetric systems of small blocks, solved by taking out the blocks with few neighbours.

A chain of 128 poses with some loops has no structure to a dense solver. Here poses with at most two
neighbours are taken out, as many at once as do not touch each other, until only those where loops
meet are left: a chain takes the logarithm of its length in rounds (cyclic reduction: Golub and Van
Loan, "Matrix Computations").
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

FEW = 2
"""Neighbours up to which a block is taken out."""


@dataclass(frozen=True, eq=False)
class Round:
    """Blocks that are taken out together, and the neighbours of each; the spare block pads."""

    taken: Int64[np.ndarray, " e"]
    neighbors: Int64[np.ndarray, "e 2"]


@dataclass(frozen=True, eq=False)
class Order:
    """The rounds in which the blocks of a system are taken out, and what is left in the end."""

    rounds: tuple[Round, ...]
    left: Int64[np.ndarray, " m"]


def elimination_order(adjacent: Bool[np.ndarray, "n n"]) -> Order:
    """A way to take out the blocks of a system in which these are not zero.

    `adjacent` is symmetric; its diagonal does not matter.
    """
    count = len(adjacent)
    neighbors = [set(np.flatnonzero(row).tolist()) - {i} for i, row in enumerate(adjacent)]
    left, rounds = set(range(count)), []
    while taken := _independent(neighbors, left):
        padded = [[*sorted(neighbors[i]), count, count][:FEW] for i in taken]
        rounds.append(Round(np.array(taken), np.array(padded)))
        left -= set(taken)
        for i in taken:
            for j in neighbors[i]:
                neighbors[j] = (neighbors[j] | neighbors[i]) - {i, j}
    return Order(tuple(rounds), np.array(sorted(left), dtype=np.int64))


def _independent(neighbors: list[set[int]], left: set[int]) -> list[int]:
    """Blocks with few neighbours, none of them beside another."""
    taken, beside = [], set()
    for i in sorted(left):
        if len(neighbors[i]) <= FEW and i not in beside:
            taken.append(i)
            beside |= neighbors[i]
    return taken


def solve(
    matrix: Float64[np.ndarray, "n_1 n_1 k k"], vector: Float64[np.ndarray, "n_1 k"], order: Order
) -> Float64[np.ndarray, "n k"]:
    """The solution x of sum over j of matrix[i, j] x[j] = vector[i], for n blocks and a spare one.

    The system is symmetric and positive definite, and zero wherever `order` was told so; the last
    row and column take what is said of neighbours that are not there, and are zero. Both arrays
    are used up. Raises LinAlgError for a system that is singular.
    """
    size = vector.shape[1]
    passed = []
    for one in order.rounds:
        beside = matrix[one.taken[:, None], one.neighbors]
        sides = np.concatenate([*beside.swapaxes(0, 1), vector[one.taken][..., None]], axis=-1)
        found = np.linalg.solve(matrix[one.taken, one.taken], sides)
        change = beside.swapaxes(-1, -2) @ found[:, None]
        for side in range(FEW):
            places = one.neighbors, one.neighbors[:, side, None]
            np.subtract.at(matrix, places, change[..., side * size : (side + 1) * size])
        np.subtract.at(vector, one.neighbors, change[..., -1])
        passed.append(found)
    answer = np.zeros_like(vector)
    core = matrix[np.ix_(order.left, order.left)].swapaxes(1, 2)
    rest = vector[order.left].ravel()
    answer[order.left] = np.linalg.solve(core.reshape(rest.size, rest.size), rest).reshape(-1, size)
    for one, found in zip(reversed(order.rounds), reversed(passed), strict=True):
        known = answer[one.neighbors].reshape(len(one.taken), -1, 1)
        answer[one.taken] = found[..., -1] - (found[..., :-1] @ known)[..., 0]
    return answer[:-1]
