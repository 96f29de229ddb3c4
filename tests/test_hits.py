"""Hits are the same whichever way the Gaussians are counted."""

import numpy as np
import pytest

from ffsplat import codes
from ffsplat.codebook import lexicon_codebook
from ffsplat.hits import Match, hits_of, slots_of
from ffsplat.types import Gaussians, Scene


def random_scene(n: int, seed: int, instances: bool = True) -> Scene:
    random = np.random.default_rng(seed)
    book = lexicon_codebook()
    numbers = random.integers(-1, 6, n).astype(np.int32)
    return Scene(
        gaussians=Gaussians(
            means=random.standard_normal((n, 3)).astype(np.float32),
            scales=np.ones((n, 3), np.float32),
            quaternions_wxyz=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
            opacities=np.where(numbers == 3, 0, random.random(n)).astype(np.float32),
            sh=np.zeros((n, 1, 3), np.float32),
        ),
        codes=codes.from_pairs(random.integers(-1, len(book), (n, 6)), random.random((n, 6)), 4),
        instances=numbers if instances else None,
        codebook=book,
    )


def random_match(scene: Scene, seed: int, labelled: bool = False, whole: bool = True) -> Match:
    random = np.random.default_rng(seed)
    scores = random.random(len(scene)).astype(np.float32)
    named = tuple(scene.codebook.levels == level for level in (0, 1))
    label = random.integers(-1, 3, len(scene)).astype(np.int32) if labelled else None
    return Match(scores, named, ("red",), whole, 0.5, ("a", "b", "c") if labelled else (), label)


@pytest.mark.parametrize("instances", [True, False])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_loops_and_arrays_find_the_same(instances, labelled, whole):
    scene = random_scene(700, 1, instances)
    match = random_match(scene, 2, labelled, whole)
    ways = [hits_of(scene, match, "x", 0.4, 3, 50, way) for way in ("numpy", "numba")]
    assert len(ways[0]) == len(ways[1]) > 2
    for a, b in zip(*ways, strict=True):
        assert (a.name, a.instance, a.count) == (b.name, b.instance, b.count)
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal([a.minimum, a.maximum], [b.minimum, b.maximum])
        np.testing.assert_allclose(a.center, b.center, rtol=1e-6)
        assert a.score == pytest.approx(b.score, rel=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_hits_are_what_a_loop_over_instances_finds(backend):
    scene = random_scene(500, 3)
    match = random_match(scene, 4)
    found = {h.instance: h for h in hits_of(scene, match, "x", 0.7, 1, 99, backend)}
    for number in range(6):
        inside = scene.instances == number
        rows = np.flatnonzero(inside & (match.scores >= np.float32(0.7)))
        hit = found[number]
        np.testing.assert_array_equal(hit.rows, rows)
        assert hit.score == pytest.approx(match.scores[inside].mean(), rel=1e-5)
        weights = scene.gaussians.opacities[rows].astype(float)
        weights = weights if weights.any() else np.ones_like(weights)
        mean = (weights[:, None] * scene.gaussians.means[rows]).sum(0) / weights.sum()
        np.testing.assert_allclose(hit.center, mean, atol=1e-6)


def test_labels_of_a_strategy_name_and_group_what_has_no_instance():
    scene = random_scene(300, 5, instances=False)
    match = random_match(scene, 6, labelled=True)
    hits = hits_of(scene, match, "none of them", 0.0, 1, 99)
    assert {hit.name for hit in hits} == {"red a", "red b", "red c", "red"}
    for hit in hits:
        (label,) = set(match.label[hit.rows].tolist())
        assert hit.name == " ".join(["red", *("abc"[label] if label >= 0 else "")])


def test_slots_are_small_whatever_the_numbers():
    slots, count = slots_of(np.array([2**31 - 1, -1, -7, 2**31 - 1], np.int32))
    np.testing.assert_array_equal(slots, [2, 1, 0, 2])
    assert count == 3
