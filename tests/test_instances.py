import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components as scipy_components

from ffsplat.instances import connected_components, label_instances


def blob(centre, count, rng, spread=0.1):
    return (np.array(centre) + rng.uniform(-spread, spread, (count, 3))).astype(np.float32)


def unit(vector, count):
    return np.tile(np.array(vector) / np.linalg.norm(vector), (count, 1)).astype(np.float32)


def test_components_equal_scipys():
    rng = np.random.default_rng(0)
    for count, edges in ((1, 0), (50, 10), (300, 250), (2000, 1500)):
        first, second = rng.integers(0, count, (2, edges))
        ours = connected_components(count, first, second)
        graph = coo_matrix((np.ones(edges), (first, second)), (count, count))
        number, theirs = scipy_components(graph, directed=False)
        assert len(np.unique(ours)) == number
        assert len(np.unique(np.stack([ours, theirs]), axis=1).T) == number
        assert (ours <= np.arange(count)).all()


def test_components_of_a_long_chain_in_random_order():
    order = np.random.default_rng(1).permutation(5000)
    assert not connected_components(5000, order[:-1], order[1:]).any()


def test_separated_by_place_class_and_embedding():
    rng = np.random.default_rng(0)
    # Two chairs apart in space, a table that touches the first chair, and a third chair that
    # touches the table's other side but looks different from its neighbour chair.
    sizes = (400, 300, 200, 100)
    centres = ((0, 0, 2), (3, 0, 2), (0.2, 0, 2), (0, 0.2, 2))
    means = np.concatenate([blob(c, n, rng) for c, n in zip(centres, sizes, strict=True)])
    rows = np.repeat([7, 7, 9, 7], sizes)
    embeddings = np.concatenate([unit(v, n) for v, n in zip(
        ((1, 0), (1, 0), (1, 0), (0, 1)), sizes, strict=True)])  # fmt: skip
    # The fourth lies in cells of its own: mean embeddings are per cell.
    means[-100:, 1] = np.clip(means[-100:, 1], 0.101, None)
    means[:400, 1] = np.clip(means[:400, 1], None, 0.099)
    labels = label_instances(means, rows, embeddings, voxel_size=0.1)
    np.testing.assert_array_equal(labels, np.repeat([0, 1, 2, 3], sizes))
    merged = label_instances(means, rows, embeddings, voxel_size=0.1, max_distance=2.0)
    np.testing.assert_array_equal(merged, np.repeat([0, 1, 2, 0], sizes))


def test_tiny_and_unknown_get_no_number():
    rng = np.random.default_rng(0)
    means = np.concatenate(
        [blob((0, 0, 0), 30, rng), blob((5, 0, 0), 19, rng), blob((9, 0, 0), 50, rng)]
    )
    rows = np.repeat([0, 0, -1], (30, 19, 50))
    labels = label_instances(means, rows, unit((1, 0, 0), 99), 0.2)
    np.testing.assert_array_equal(labels, np.repeat([0, -1, -1], (30, 19, 50)))


def test_order_of_the_gaussians_does_not_matter():
    rng = np.random.default_rng(3)
    means = rng.uniform(-1, 1, (3000, 3)).astype(np.float32)
    rows = rng.integers(-1, 3, 3000)
    vectors = rng.normal(size=(3000, 4)).astype(np.float32)
    embeddings = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = label_instances(means, rows, embeddings, 0.15, min_gaussians=5)
    order = rng.permutation(3000)
    shuffled = label_instances(means[order], rows[order], embeddings[order], 0.15, min_gaussians=5)
    pairs = np.unique(np.stack([labels[order], shuffled]), axis=1).T
    assert len(pairs) == len(np.unique(labels)) == len(np.unique(shuffled)) > 3
    sizes = np.bincount(labels[labels >= 0])
    assert (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize("count", [0, 1])
def test_almost_no_gaussians(count):
    labels = label_instances(
        np.zeros((count, 3), np.float32),
        np.zeros(count, np.int64),
        unit((1, 0), count),
        0.1,
        min_gaussians=1,
    )
    np.testing.assert_array_equal(labels, np.zeros(count))


def test_a_point_at_the_end_of_the_world_does_not_wrap_round():
    means = np.array([[0, 0, 0], [1e9, 0, 0], [-1e9, 1, 0]], np.float32)
    labels = label_instances(means, np.zeros(3, np.int64), unit((1, 0), 3), 0.1, min_gaussians=1)
    assert len(set(labels)) == 3
