import numpy as np
import pytest

from ffsplat.stream.graph.elimination import Order, elimination_order, solve

SIZE = 3


def system(adjacent: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A random positive definite system with this structure, and a right-hand side."""
    random = np.random.default_rng(seed)
    n = len(adjacent)
    blocks = np.zeros((n, n, SIZE, SIZE))
    for i in range(n):
        blocks[i, i] += np.eye(SIZE)
        for j in range(i):
            if adjacent[i, j]:
                rows = random.normal(size=(2 * SIZE, 2 * SIZE))
                whole = rows @ rows.T
                blocks[i, i] += whole[:SIZE, :SIZE]
                blocks[i, j] += whole[:SIZE, SIZE:]
                blocks[j, i] += whole[SIZE:, :SIZE]
                blocks[j, j] += whole[SIZE:, SIZE:]
    return blocks, random.normal(size=(n, SIZE))


def structure(n: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    adjacent = np.zeros((n, n), dtype=bool)
    for i, j in pairs:
        adjacent[i, j] = adjacent[j, i] = True
    return adjacent


CHAIN = [(i, i + 1) for i in range(29)]
STRUCTURES = {
    "no edges": structure(4, []),
    "one": structure(1, []),
    "chain": structure(30, CHAIN),
    "ring": structure(30, [*CHAIN, (0, 29)]),
    "loops": structure(30, [*CHAIN, (0, 20), (3, 25), (7, 15), (2, 29)]),
    "complete": ~np.eye(6, dtype=bool),
    "random": np.random.default_rng(1).random((25, 25)) < 0.1,
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_solution_is_that_of_the_dense_system(name):
    adjacent = STRUCTURES[name] | STRUCTURES[name].T
    blocks, right = system(adjacent)
    n, order = len(adjacent), elimination_order(adjacent)
    found = solve(order, kept(order, blocks), right.copy())
    dense = blocks.swapaxes(1, 2).reshape(n * SIZE, n * SIZE)
    np.testing.assert_allclose(
        found, np.linalg.solve(dense, right.ravel()).reshape(n, SIZE), atol=1e-10
    )


def kept(order: Order, blocks: np.ndarray) -> np.ndarray:
    """A dense matrix of blocks as the order keeps it."""
    matrix = order.empty(SIZE)
    for i, j in np.argwhere(order.slots >= 0):
        if order.place[i] <= order.place[j]:
            matrix[order.slots[i, j]] = blocks[i, j]
    return matrix


def test_a_chain_costs_two_neighbours_a_block_and_a_complete_graph_all():
    chain = elimination_order(structure(128, [(i, i + 1) for i in range(127)]))
    assert chain.degrees.max() == 1
    ring = elimination_order(structure(128, [(i, (i + 1) % 128) for i in range(128)]))
    assert ring.degrees.max() == 2
    complete = elimination_order(STRUCTURES["complete"])
    assert complete.degrees.tolist() == [5, 4, 3, 2, 1, 0]
    assert len(complete.empty(SIZE)) == 21


def test_a_system_that_is_singular_is_named():
    order = elimination_order(structure(2, [(0, 1)]))
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        solve(order, order.empty(SIZE), np.ones((2, SIZE)))
