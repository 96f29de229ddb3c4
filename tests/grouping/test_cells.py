from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat import codes
from ffsplat.codebook import add_space
from ffsplat.grouping.cells import cells_of, coded_vectors
from ffsplat.grouping.neighbors import nearest


@pytest.fixture(scope="module")
def room():
    return small_room(2000)


@pytest.mark.parametrize("most", [1, 30, 500])
def test_cells_are_no_more_than_asked_and_hold_the_means_of_their_gaussians(room, most):
    cells = cells_of(room, most)
    assert 0 < len(cells) <= most
    assert cells.sizes.sum() == len(room)
    for cell in range(0, len(cells), 7):
        inside = cells.index == cell
        assert cells.means[cell] == pytest.approx(room.gaussians.means[inside].mean(0), abs=1e-5)
        assert np.ptp(room.gaussians.means[inside], axis=0).max() <= cells.side * 1.001


def test_an_empty_scene_has_no_cells(room):
    assert len(cells_of(room[:0], 10)) == 0


def test_coded_vectors_are_the_weighted_rows_at_length_one(room):
    generator = np.random.default_rng(3)
    rows = len(room.codebook)
    code = codes.from_pairs(generator.integers(0, rows, (50, 4)), generator.random((50, 4)))
    rows_of_space = generator.standard_normal((rows, 16))
    book = add_space(room.codebook, "toy", rows_of_space)
    toy = type(book)(
        book.names, book.levels, book.parents, book.counts, {"toy": book.spaces["toy"]}
    )
    dense = codes.to_dense(code, rows)
    for codebook in (book, toy):
        first = next(iter(codebook.spaces.values())).astype(np.float32)
        wanted = dense @ first
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        scene = replace(room, codebook=codebook)
        got = coded_vectors(scene, replace(cells_of(scene, 99), codes=code))
        assert got @ got.T == pytest.approx(wanted @ wanted.T, abs=2e-3)


def test_a_code_without_evidence_is_the_zero_vector(room):
    nothing = codes.from_pairs(np.full((2, 1), -1), np.zeros((2, 1)))
    assert not coded_vectors(room, replace(cells_of(room, 99), codes=nothing)).any()


def test_nearest_neighbours_are_those_of_all_pairs():
    points = np.random.default_rng(0).random((300, 3)).astype(np.float32)
    found, far = nearest(points, points, 10)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert far == pytest.approx(np.sort(distances, axis=1)[:, :10], abs=1e-5)
    assert np.take_along_axis(distances, found, 1) == pytest.approx(far, abs=1e-5)
    assert (found[:, 0] == np.arange(300)).all()


def test_of_few_points_all_are_neighbours():
    points = np.eye(3, dtype=np.float32)[:2]
    assert nearest(points, points, 10)[0].tolist() == [[0, 1], [1, 0]]
    assert nearest(points, points[:0], 10)[0].shape == (2, 0)
