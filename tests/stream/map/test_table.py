import numpy as np
import pytest

from ffsplat.stream.map.table import EMPTY, cell_key, delete, empty_table, fill, find, insert


def test_a_table_is_at_most_half_full():
    for capacity in (1, 2, 3, 4, 5, 1000, 500_000):
        slots = len(empty_table(capacity).keys)
        assert slots >= 2 * capacity
        assert slots & (slots - 1) == 0


@pytest.mark.parametrize(("seed", "capacity"), [(0, 4), (1, 16), (2, 16), (3, 200)])
def test_it_does_what_a_dictionary_does(seed, capacity):
    rng = np.random.default_rng(seed)
    table, truth = empty_table(capacity), {}
    keys = rng.integers(0, 2**62, 2 * capacity)
    for step in range(4000):
        key = rng.choice(keys)
        if key in truth and rng.random() < 0.8:
            delete(table.keys, table.places, key)
            del truth[key]
        elif key not in truth and len(truth) < capacity:
            insert(table.keys, table.places, key, step)
            truth[key] = step
        asked = rng.choice(keys)
        assert find(table.keys, table.places, asked) == truth.get(asked, -1)
    assert sorted(table.keys[table.keys != EMPTY]) == sorted(truth)
    for key in keys:
        assert find(table.keys, table.places, key) == truth.get(key, -1)


def test_deleting_what_is_not_there_changes_nothing():
    table = empty_table(8)
    insert(table.keys, table.places, 5, 0)
    before = table.keys.copy()
    delete(table.keys, table.places, 6)
    assert np.array_equal(table.keys, before)


def test_filling_finds_every_place_that_has_a_key():
    keys = np.array([7, EMPTY, 2**50, 0])
    table = empty_table(4)
    fill(table.keys, table.places, keys)
    assert [find(table.keys, table.places, key) for key in (7, 2**50, 0, 1)] == [0, 2, 3, -1]


def test_a_key_holds_the_submap_and_the_cell():
    key = cell_key(5, 0.25, -0.05, 0.0, 0.1)
    parts = [key >> 48, *(((key >> shift) & 0xFFFF) - 2**15 for shift in (32, 16, 0))]
    assert parts == [5, 2, -1, 0]


def test_cells_reach_32768_either_way():
    assert cell_key(0, 32767.5, -32768.0, 0.0, 1.0) != EMPTY
    for value in (32768.0, -32768.5, np.nan, np.inf):
        assert cell_key(0, value, 0.0, 0.0, 1.0) == EMPTY
        assert cell_key(0, 0.0, 0.0, value, 1.0) == EMPTY
