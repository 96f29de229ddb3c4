"""Endless rooms: the same rooms as those of a pool, whoever furnishes them."""

from itertools import islice

import pytest
import torch

from data.rooms import SPLITS, endless_rooms, render_rooms
from data.rooms.pool import pool_tensors

CPU = torch.device("cpu")


def rooms(first: int, count: int, workers: int = 0) -> list[dict[str, torch.Tensor]]:
    endless = endless_rooms(
        first=first, group=2, views=2, size=16, atlas=None, device=CPU, workers=workers
    )
    return list(islice(endless, count))


@pytest.mark.parametrize("workers", [0, 2])
def test_groups_are_rooms_of_the_training_split(workers):
    found = rooms(3, 2, workers)
    for number, group in enumerate(found):
        seeds = [SPLITS["train"][2 * (3 + number) + i] for i in range(2)]
        expected = pool_tensors(render_rooms(seeds, 2, 16, 16))
        assert group.keys() == expected.keys()
        for name, tensor in group.items():
            assert torch.equal(tensor, expected[name]), name


def test_after_the_last_room_comes_the_first(monkeypatch):
    monkeypatch.setitem(SPLITS, "train", range(4))
    assert torch.equal(rooms(2, 1)[0]["depth"], rooms(0, 1)[0]["depth"])
