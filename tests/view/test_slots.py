"""Slots on the pages: what they hold changes, and their number and size seldom."""

import numpy as np
import pytest

from ffsplat.view import slots
from ffsplat.view.packing import nothing
from ffsplat.view.slots import Places, Slots, filled
from tests.view.nodes import Server

SLOT = 4


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Slots of a few Gaussians."""
    monkeypatch.setattr(slots, "SLOT", SLOT)


def words_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1 << 32, (count, 8), np.uint32)


def seen(server: Server) -> np.ndarray:
    """All that the pages draw, in a fixed order."""
    shown = [node.buffer for node in server.nodes.values() if node.visible]
    drawn = np.concatenate(shown)
    drawn = drawn[drawn[:, 7] > 0]
    return drawn[np.lexsort(drawn.T)]


def puts(server: Server) -> list[int]:
    return [node.puts for node in server.nodes.values()]


def test_what_fills_a_slot_cannot_be_seen_and_lies_where_the_first_one_lies():
    words = words_of(3)
    full = filled(words)
    assert (full[:3] == words).all()
    assert full[3, :3].tolist() == words[0, :3].tolist()
    assert not full[3, 3:].any()


def test_parts_are_seen_whole_whatever_their_size():
    server, parts = Server(), {7: words_of(9), 3: words_of(2, 1), 5: words_of(SLOT, 2)}
    Slots(server).show(parts)
    assert len(server.nodes) == 3 + 1 + 1
    every = np.concatenate(list(parts.values()))
    assert (seen(server) == every[np.lexsort(every.T)]).all()


def test_only_pieces_that_differ_are_sent():
    server, words = Server(), words_of(3 * SLOT)
    shown = Slots(server)
    shown.show({0: words, 1: words})
    other = words.copy()
    other[SLOT, 7] += 1
    before = shown.sent_bytes
    shown.show({0: words, 1: other})
    assert puts(server) == [1, 1, 1, 1, 2, 1]
    assert shown.sent_bytes - before == SLOT * 32


def test_fewer_and_as_many_again_change_no_number_and_no_size():
    server, words = Server(), words_of(3 * SLOT)
    shown = Slots(server)
    shown.show({0: words})
    shown.show({0: words[:2]})
    assert len(server.nodes) == 3
    assert len(seen(server)) == 2
    shown.show({0: words})
    assert len(seen(server)) == 3 * SLOT
    assert puts(server) == [3, 1, 1]  # what was only hidden is not sent again
    assert {len(node.buffer) for node in server.nodes.values()} == {SLOT}


def test_nothing_is_one_slot_that_cannot_be_seen():
    server = Server()
    Slots(server).show({0: nothing()})
    assert len(server.nodes) == 1
    assert not len(seen(server))


def test_a_map_that_grows_gets_slots_seldom():
    places, counts = Places(), []
    for size in range(1, 101):
        kept = places.of([(part, 0) for part in range(size - 1)], 8)
        grown = places.of([(part, 0) for part in range(size)], 8)
        assert all(grown[piece] == slot for piece, slot in kept.items())
        assert len(set(grown.values())) == size <= places.count
        counts.append(places.count)
    assert sorted(set(counts)) == [8, 16, 32, 64, 128]


def test_a_slot_whose_piece_is_gone_is_given_to_another():
    places = Places()
    places.of([(0, 0), (1, 0), (2, 0)])
    assert places.of([(0, 0), (2, 0), (9, 0)]) == {(0, 0): 0, (2, 0): 2, (9, 0): 1}
    assert places.count == 3


def test_without_slots_nodes_are_as_large_as_their_parts():
    server, words = Server(), words_of(3 * SLOT)
    shown = Slots(server)
    shown.show({0: words[:3], 1: words[3:]}, fewest=0)
    assert [len(node.buffer) for node in server.nodes.values()] == [3, 3 * SLOT - 3]
    shown.show({0: words[:2]}, fewest=0)
    assert [len(node.buffer) for node in server.nodes.values()] == [2]
