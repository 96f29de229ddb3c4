import numpy as np
import pytest
import torch
from fakes import fake_prediction

from ffsplat.stream.places import ENOUGH, REMEMBERED, PlaceMemory, global_descriptor

WIDTH, COMMON = 64, 5.0


def walk(rounds: int, places: int = 40, seed: int = 0) -> np.ndarray:
    """Descriptors on a closed way, nearly parallel as those of networks are, with noise."""
    random = np.random.default_rng(seed)
    angles = np.arange(rounds * places) * 2 * np.pi / places
    waves = [f(k * angles) / k for k in (1, 2, 3) for f in (np.cos, np.sin)]
    basis = np.linalg.qr(random.normal(size=(WIDTH, 7)))[0]
    found = basis[:, 0] * COMMON + np.stack(waves, -1) @ basis[:, 1:].T
    found += 0.02 * random.normal(size=found.shape)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def asked(memory: PlaceMemory, descriptors: np.ndarray, near: int = 4) -> list[list]:
    """Candidates of each place as a mapper asks for them, the last places excluded."""
    answers = []
    for key, descriptor in enumerate(descriptors):
        memory.add(key, descriptor)
        excluded = set(range(key - near, key + 1))
        answers.append(memory.candidates(descriptor, excluded, 1))
    return answers


def test_a_place_of_the_round_before_is_found_and_no_other():
    descriptors = walk(2)
    assert (descriptors @ descriptors.T).min() > 0.85  # cosines alone say little
    answers = asked(PlaceMemory(100), descriptors)
    firsts = [answer[0][0] for answer in answers[40:] if answer]
    assert len(firsts) == 40
    for key, found in enumerate(firsts):
        assert min((key - found) % 40, (found - key) % 40) <= 2
    # Half a round from all that is known but the neighbourhood, nothing is alike.
    assert not any(answers[12:30])


def test_nothing_is_found_before_it_is_known_what_is_alike():
    memory = PlaceMemory(100)
    answers = asked(memory, walk(1)[: 2 * ENOUGH])
    assert not any(answers)
    assert memory.candidates(walk(1)[0], [], 3) == []
    assert PlaceMemory(3).candidates(walk(1)[0], [], 3) == []


def test_candidates_are_the_most_alike_that_are_not_excluded():
    memory = PlaceMemory(100)
    descriptors = walk(2)
    asked(memory, descriptors)
    alike = memory.likeness(descriptors[50])
    excluded = set(range(46, 55))
    found = memory.candidates(descriptors[50], excluded, 3)
    best = sorted(alike.keys() - excluded, key=lambda key: -alike[key])[:3]
    assert [key for key, _ in found] == best
    assert [value for _, value in found] == pytest.approx([alike[key] for key in best])


def test_likeness_is_the_cosine_from_the_mean():
    memory = PlaceMemory(10)
    descriptors = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32) + 3
    for key, one in enumerate(descriptors):
        memory.add(key, one)
    apart = descriptors - descriptors.mean(0)
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    found = memory.likeness(descriptors[3])
    np.testing.assert_allclose([found[key] for key in range(10)], apart @ apart[3], atol=1e-5)


def test_memory_is_bounded_and_forgets():
    memory = PlaceMemory(30)
    asked(memory, walk(10))
    assert len(memory) == 30
    assert set(memory.likeness(walk(1)[0])) == set(range(370, 400))
    assert len(memory._near) == REMEMBERED
    memory.remove(380)
    memory.remove(380)
    assert len(memory) == 29
    with pytest.raises(ValueError, match="max_places"):
        PlaceMemory(0)


def test_the_descriptor_is_the_mean_of_what_the_network_has():
    tokens = torch.randn(1, 2, 1, 1, 5)
    said = fake_prediction(features=tokens)
    expected = tokens[0, 1].mean((0, 1)).numpy()
    np.testing.assert_allclose(
        global_descriptor(said, 1), expected / np.linalg.norm(expected), atol=1e-6
    )
    tokens = torch.randn(1, 2, 3, 4, 3)
    expected = tokens[0, 0].mean((0, 1)).numpy()
    np.testing.assert_allclose(
        global_descriptor(fake_prediction(token_descriptors=tokens), 0),
        expected / np.linalg.norm(expected),
        atol=1e-6,
    )
    none = torch.zeros(1, 2, 1, 1, 0)
    with pytest.raises(ValueError, match="describes no tokens"):
        global_descriptor(fake_prediction(token_descriptors=none, descriptors=none), 0)
