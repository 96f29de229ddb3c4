import gc

import numpy as np
import pytest
from small_room import small_room

from ffsplat import codes
from ffsplat.grouping.cells import unit_vectors
from ffsplat.grouping.neighbors import nearest
from ffsplat.grouping.smoothing import _smoothed, smooth, smoothed_codes


def mean_directions(code, rows, neighbors):
    """The mean of the neighbours' unit vectors at length 1, written out."""
    dense = codes.to_dense(code, len(rows)) @ rows
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    unit = np.divide(dense, lengths, out=np.zeros_like(dense), where=lengths > 0)
    mean = unit[neighbors].mean(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def test_a_smoothed_code_is_the_direction_of_the_mean_of_its_neighbours():
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((12, 20)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids, weights = generator.integers(-1, 12, (300, 4)), generator.random((300, 4))
    code = codes.from_pairs(ids, weights, 4, rows @ rows.T)
    points = generator.random((300, 3)).astype(np.float32)
    near, _ = nearest(points, points, 10)
    wanted = mean_directions(code, rows, near)
    assert unit_vectors(smooth(code, near), rows) == pytest.approx(wanted, abs=2e-3)
    kept = unit_vectors(smooth(code, near, 8), rows)
    assert (kept * wanted).sum(axis=1).mean() > 0.9  # of rows that no neighbours share


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_no_row_is_cut_off_and_no_column_is_empty(backend):
    generator = np.random.default_rng(2)
    code = codes.from_pairs(generator.integers(0, 500, (60, 4)), generator.random((60, 4)))
    near = generator.integers(0, 60, (60, 10)).astype(np.int32)
    around = [len(np.unique(code.ids[rows][code.weights[rows] > 0])) for rows in near]
    found = smooth(code, near, backend=backend)
    assert found.ids.shape == (60, max(around))
    assert (found.ids >= 0).sum(axis=1).tolist() == around


def test_compiled_and_plain_smoothing_agree():
    generator = np.random.default_rng(1)
    code = codes.from_pairs(generator.integers(-1, 9, (200, 4)), generator.random((200, 4)))
    near = generator.integers(0, 200, (200, 10)).astype(np.int32)
    fast, plain = (smooth(code, near, backend=backend) for backend in ("numba", "numpy"))
    assert (fast.ids == plain.ids).mean() > 0.99  # sums in another order may tie otherwise
    assert fast.weights.astype(float) == pytest.approx(plain.weights.astype(float), abs=2e-3)


def test_neighbours_without_evidence_do_not_count():
    code = codes.from_pairs(np.array([[3], [-1], [-1]]), np.array([[1.0], [0.0], [0.0]]))
    near = np.array([[0, 1], [1, 0], [1, 2]], np.int32)
    assert smooth(code, near).ids[:, 0].tolist() == [3, 3, -1]


def test_codes_are_smoothed_once_for_each_scene_and_forgotten_with_it():
    room = small_room(200)
    first = smoothed_codes(room, room.codes)
    assert smoothed_codes(room, room.codes) is first
    known = len(_smoothed)
    del room
    gc.collect()
    assert len(_smoothed) < known
