"""Rooms for training: a window over an endless row that is the same after a break."""

from dataclasses import replace
from itertools import count

import pytest
import torch

import train.rooms as module
from ffsplat.errors import UsageError
from train.rooms import KEYS, EndlessRooms, RoomSettings

SETTINGS = RoomSettings(size=8, views=2, skipped=20, first=4, fresh=3, kept=8, group=2)


def numbered(*, first: int, group: int, **options):
    """Rooms that hold nothing but their number."""
    for number in count(first):
        mine = torch.arange(number * group, (number + 1) * group)
        yield {key: mine.float()[:, None] for key in KEYS}


@pytest.fixture
def endless(monkeypatch):
    monkeypatch.setattr(module, "endless_rooms", numbered)
    return lambda: EndlessRooms(SETTINGS, None, torch.device("cpu"), 0)


def shown(rooms: EndlessRooms, step: int) -> set[int]:
    return set(rooms.at(step)["depth"][:, 0].int().tolist())


def test_the_window_moves_with_the_steps(endless):
    rooms = endless()
    assert shown(rooms, 0) == {20, 21, 22, 23}
    assert shown(rooms, 1) == set(range(20, 28))  # 7 rooms, in whole groups of 2
    assert shown(rooms, 2) == set(range(22, 30))  # the oldest two made room
    assert shown(rooms, 3) == set(range(26, 34))


def test_a_resumed_run_sees_what_an_unbroken_one_sees(endless):
    unbroken = endless()
    for step in range(6):
        unbroken.at(step)
    resumed = endless()
    for step in (5, 6, 9):
        for key, tensor in unbroken.at(step).items():
            assert torch.equal(tensor, resumed.at(step)[key])


@pytest.mark.parametrize("change", [{"kept": 9}, {"kept": 2}, {"skipped": 1}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(UsageError, match="multiples of group"):
        replace(SETTINGS, **change)


@pytest.mark.parametrize(
    ("styles", "problem"),
    [
        ({"close": -0.1}, "between 0 and 1"),
        ({"steady": 1.1}, "between 0 and 1"),
        ({"close": 0.6, "steady": 0.5}, "more than 1"),
        ({"far": 0.1}, "no style 'far'"),
    ],
)
def test_impossible_shares_of_styles_are_refused(styles, problem):
    with pytest.raises(UsageError, match=problem):
        replace(SETTINGS, styles=styles)


def test_the_shares_of_styles_reach_the_rooms(monkeypatch):
    told = []
    monkeypatch.setattr(
        module, "endless_rooms", lambda *, shares, **rest: told.append(shares) or numbered(**rest)
    )
    EndlessRooms(replace(SETTINGS, styles={"close": 0.3}), None, torch.device("cpu"), 0).at(0)
    assert told == [{"close": 0.3}]
