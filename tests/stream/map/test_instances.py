from collections import Counter

import numpy as np
import pytest

from ffsplat.alignment import Similarity
from ffsplat.semantics.associate import OVERLAP, associate_masks
from ffsplat.stream.map.instances import match_instances, vote
from ffsplat.stream.map.pairs import CAP
from tests.stream.map.made import observed, one_submap


def match(observed, known, met=None, fresh=100):
    """The numbers as a list, and the next fresh one."""
    known = np.int32(known)
    met = np.ones(len(known), bool) if met is None else np.array(met, bool)
    numbers, fresh = match_instances(np.int32(observed), known, met, fresh)
    return numbers.tolist(), fresh


def slowly(observed, known, met, fresh):
    """The same rule one mask at a time."""
    numbers, taken = dict.fromkeys([-1], -1), set()
    for mask, _ in sorted(Counter(observed[observed >= 0]).items(), key=lambda m: (-m[1], m[0])):
        mine = (observed == mask) & met
        shares = Counter(known[mine & (known >= 0)])
        free = [(-n, g) for g, n in shares.items() if g not in taken and n >= OVERLAP * mine.sum()]
        numbers[mask] = min(free)[1] if free else fresh
        fresh += not free
        taken.add(numbers[mask])
    return [numbers[mask] for mask in observed], fresh


@pytest.mark.parametrize("seed", range(10))
def test_the_rule_one_mask_at_a_time_says_the_same(seed):
    rng = np.random.default_rng(seed)
    n = 400
    observed = rng.integers(-1, 25, n).astype(np.int32)
    known = np.where(rng.random(n) < 0.7, observed // 2, rng.integers(-1, 20, n)).astype(np.int32)
    met = rng.random(n) < 0.6
    assert match(observed, known, met) == slowly(observed, known, met, 100)


def test_an_object_goes_on_where_enough_of_it_was_known():
    # 1 of 9 places is OVERLAP exactly, 1 of 10 is less.
    assert match([4] * 9, [7] + [-1] * 8) == ([7] * 9, 100)
    assert match([4] * 10, [7] + [-1] * 9) == ([100] * 10, 101)


def test_places_that_are_new_do_not_count():
    assert match([4] * 20, [7] + [-1] * 19, [1] + [0] * 19) == ([7] * 20, 100)


def test_two_objects_of_a_frame_are_never_one():
    numbers, fresh = match([1, 1, 1, 2, 2], [7, 7, 7, 7, 7])
    assert (numbers, fresh) == ([7, 7, 7, 100, 100], 101)


def test_the_second_best_is_left_to_the_smaller_object():
    numbers, _ = match([1, 1, 1, 2, 2, 2, 2], [7, 7, 8, 7, 7, 7, 8])
    assert numbers == [8, 8, 8, 7, 7, 7, 7]


def test_no_object_has_no_number():
    assert match([-1, -1], [3, -1]) == ([-1, -1], 100)
    assert match([], []) == ([], 100)


def test_a_majority_wins_whoever_came_first():
    rng = np.random.default_rng(0)
    for _ in range(5):
        instances, votes = np.int32([-1]), np.float32([0])
        for number in rng.permutation([5] * 11 + [6] * 4 + [7] * 4):
            vote(instances, votes, 0, number, np.float32(0.5))
        assert instances[0] == 5


def test_votes_are_capped_and_nobody_abstains_loudly():
    instances, votes = np.int32([-1]), np.float32([0])
    for _ in range(200):
        vote(instances, votes, 0, 5, np.float32(1))
        vote(instances, votes, 0, -1, np.float32(1))
    assert (instances[0], votes[0]) == (5, CAP)
    for _ in range(int(CAP) + 1):
        vote(instances, votes, 0, 6, np.float32(1))
    assert instances[0] == 6


def test_objects_keep_their_numbers_from_frame_to_frame():
    """As in the sets of places of `associate_masks`, while the camera moves over a row of tiles."""
    splats = one_submap()
    tiles = np.arange(40) // 8
    truth, cells, ours = [], [], []
    rng = np.random.default_rng(2)
    for now, start in enumerate(range(0, 20, 4)):
        seen = np.arange(start, start + 20)
        names = rng.permutation(5)[tiles[seen]]
        row = np.stack([0.1 * seen + 0.05, np.full(20, 0.05), np.full(20, 0.05)], 1)
        splats.fuse(observed(row, instances=names), 0, [], now)
        ours.append(splats.gaussians().instances[seen])
        truth.append(names)
        cells.append(seen)
    expected = associate_masks(np.int32(truth)[:, None], np.int64(cells)[:, None])[:, 0]
    np.testing.assert_array_equal(np.array(ours)[:, :16], expected[:, :16])
    assert splats.instance_count == 5
    assert np.array_equal(splats.gaussians().instances, tiles[:36])


def test_numbers_are_never_given_again():
    splats = one_submap()
    for now in range(3):
        splats.fuse(observed([[0.05, 0.05, 0.05]], instances=[0]), 0, [], now)
        assert splats.gaussians().instances.tolist() == [now]
        splats.remove_submap(0)
        splats.add_submap(Similarity.identity())
