"""Undo and redo: the very arrays come back, and the memory that it takes is bounded."""

import numpy as np
import pytest
from small_room import small_room

from ffsplat.edit import Extract, History, Label, Recolor, Remove
from ffsplat.errors import UsageError

BLUE = Recolor((0.1, 0.2, 0.9))


def thirds(count: int) -> list[np.ndarray]:
    return [np.arange(count) % 3 == rest for rest in range(3)]


def test_undo_and_redo_give_the_very_scenes_back():
    room = small_room()
    history = History(room)
    scenes = [room]
    for operation in (BLUE, Label("lamp"), Remove(), Extract()):
        scenes.append(history.do(operation, np.arange(len(history.scene)) % 2 == 0))
    for scene in reversed(scenes[:-1]):
        assert history.can_undo
        assert history.undo() is scene
    assert not history.can_undo
    for scene in scenes[1:]:
        assert history.can_redo
        assert history.redo() is scene
    assert not history.can_redo


def test_undo_at_the_start_and_redo_at_the_end_do_nothing():
    room = small_room()
    history = History(room)
    assert history.undo() is room
    assert history.redo() is room


def test_a_new_step_ends_what_was_taken_back():
    history = History(small_room())
    first, second, _ = thirds(1000)
    history.do(BLUE, first)
    history.undo()
    changed = history.do(Remove(), second)
    assert not history.can_redo
    assert history.scene is changed


def test_a_step_that_fails_leaves_no_trace():
    class Broken:
        def apply(self, scene, chosen):
            raise ValueError("no")

    history = History(small_room())
    with pytest.raises(ValueError, match="no"):
        history.do(Broken(), np.ones(1000, bool))
    assert not history.can_undo


def test_the_arrays_of_a_scene_do_not_change_under_it():
    room = small_room()
    kept = [array.copy() for array in vars(room.gaussians).values() if array is not None]
    assert room.codes is not None
    ids = room.codes.ids.copy()
    history = History(room)
    for operation in (BLUE, Label("lamp", new_instance=True), Remove()):
        history.do(operation, np.arange(len(history.scene)) < 100)
    now = [array for array in vars(room.gaussians).values() if array is not None]
    for old, new in zip(kept, now, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(ids, room.codes.ids)


def test_a_colour_costs_colours_and_a_removal_costs_the_scene():
    room = small_room()
    chosen = thirds(1000)[0]
    history = History(room)
    history.do(BLUE, chosen)
    assert history.held_bytes == room.gaussians.sh.nbytes
    history = History(room)
    history.do(Remove(), chosen)
    assert history.held_bytes > 50 * 1000


def test_old_steps_are_forgotten_beyond_the_bounds_but_never_the_last():
    room = small_room()
    chosen = thirds(1000)[0]
    history = History(room, max_steps=3)
    for _ in range(5):
        history.do(BLUE, chosen)
    for _ in range(3):
        history.undo()
    assert not history.can_undo
    assert history.scene is not room

    history = History(room, max_bytes=2 * room.gaussians.sh.nbytes)
    for _ in range(5):
        history.do(BLUE, chosen)
        assert history.held_bytes <= history.max_bytes
    history = History(room, max_bytes=0)
    history.do(BLUE, chosen)
    assert history.undo() is room


def test_a_history_without_steps_is_refused():
    with pytest.raises(ValueError, match="0 steps"):
        History(small_room(), max_steps=0)


def test_a_choice_of_an_earlier_scene_is_refused():
    history = History(small_room())
    first, second, _ = thirds(1000)
    history.do(Remove(), first)
    with pytest.raises(UsageError, match="1000 truth values for 666 Gaussians"):
        history.do(BLUE, second)
    assert len(history.scene) == 666
