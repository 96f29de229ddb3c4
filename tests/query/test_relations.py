import numpy as np
import pytest
from toyrooms import Box, room

from ffsplat.query import relations
from ffsplat.query.phrases import RANKS, RELATIONS
from ffsplat.query.relations import HOLDS, ORDERS, ROUGHLY, VIEWED, thing
from ffsplat.query.viewpoint import viewpoint


def things(*boxes, camera=""):
    scene = room(*boxes)
    view = viewpoint(scene, camera)
    return [
        thing(scene, view, box.name, number, 1.0, np.flatnonzero(scene.instances == number))
        for number, box in enumerate(boxes)
    ]


def holding(*boxes, camera=""):
    """The relations that hold between the first box and the others."""
    first, *others = things(*boxes, camera=camera)
    wanted = 2 if len(others) == 2 else 1
    names = [name for name in HOLDS if (name == "between") == (wanted == 2)]
    return {name for name in names if HOLDS[name](first, *others)}


TABLE = Box("table", (0, 3, 0), (1.2, 0.8, 0.75))


@pytest.mark.parametrize(
    ("box", "held"),
    [
        (Box("chair", (-1.5, 3, 0)), {"left"}),
        (Box("chair", (1.5, 3, 0)), {"right"}),
        (Box("chair", (0, 1.2, 0)), {"front"}),
        (Box("chair", (0, 5, 0)), {"behind"}),
        (Box("chair", (-0.9, 3, 0)), {"left", "near"}),
        (Box("cup", (0.0, 3, 0.75), (0.1, 0.1, 0.1)), {"on", "near", "above"}),
        (Box("ceiling lamp", (0.0, 3, 2.0), (0.4, 0.4, 0.3)), {"above"}),
        (Box("rug", (0, 3, -0.01), (2.0, 1.6, 0.01)), {"below", "near"}),
        (Box("picture", (0, 3.45, 1.3), (0.6, 0.02, 0.5)), {"behind"}),
        (Box("chair", (-1.2, 1.2, 0)), {"left"}),
    ],
    ids=lambda value: value.name if isinstance(value, Box) else "-".join(sorted(value)),
)
def test_a_thing_beside_a_table_has_just_these_relations(box, held):
    assert holding(box, TABLE) == held


@pytest.mark.parametrize(
    ("box", "name"),
    [
        (Box("picture", (0, 3.45, 1.3), (0.6, 0.02, 0.5)), "above"),
        (Box("chair", (-1.0, 1.2, 0)), "front"),
        (Box("chair", (-1.7, 5.2, 0)), "behind"),
        (Box("box", (0, 2.3, -0.5), (0.4, 0.4, 0.4)), "below"),
    ],
)
def test_what_strictly_holds_of_nothing_may_hold_roughly(box, name):
    found, table = things(box, TABLE)
    assert not HOLDS[name](found, table)
    assert ROUGHLY[name](found, table)
    assert not ROUGHLY[name](table, found)


def test_from_the_other_side_left_is_right_and_behind_is_before():
    left, behind = Box("chair", (-1.5, 3, 0)), Box("chair", (0, 5, 0))
    assert holding(left, TABLE, camera="back") == {"right"}
    assert holding(behind, TABLE, camera="1") == {"front"}


def test_a_cushion_rests_on_a_chair_that_has_a_back():
    seat = Box("chair", (0, 3, 0), (0.5, 0.5, 0.45))
    back = Box("chair", (0, 3.22, 0.45), (0.5, 0.05, 0.5))
    scene = room(Box("cushion", (0, 2.98, 0.45), (0.4, 0.3, 0.1)), seat, back)
    view = viewpoint(scene)
    cushion = thing(scene, view, "cushion", 0, 1.0, np.flatnonzero(scene.instances == 0))
    chair = thing(scene, view, "chair", 1, 1.0, np.flatnonzero(scene.instances > 0))
    assert relations.on(cushion, chair)
    assert not relations.on(chair, cushion)


def test_a_chair_that_is_pushed_under_a_table_is_not_on_it():
    top = Box("table", (0, 3, 0.7), (1.2, 0.8, 0.05))
    chair, table = things(Box("chair", (0.1, 2.8, 0), (0.4, 0.4, 0.45)), top)
    assert relations.below(chair, table)
    assert not relations.on(chair, table)


def test_a_book_is_in_a_shelf():
    shelf = Box("bookshelf", (0, 3, 0), (1, 0.4, 2))
    assert "in" in holding(Box("book", (0.2, 3, 1), (0.05, 0.2, 0.3)), shelf)
    assert "in" not in holding(shelf, Box("book", (0.2, 3, 1), (0.05, 0.2, 0.3)))


@pytest.mark.parametrize(
    ("at", "holds"),
    [((0, 3.0, 0), True), ((0, 3.8, 0), False), ((2.2, 3, 0), False), ((0, 3, 2.2), False)],
)
def test_between_is_a_strip_from_one_anchor_to_the_other(at, holds):
    ball = Box("ball", at, (0.2, 0.2, 0.2))
    anchors = Box("bed", (-1.5, 3, 0), (1, 1, 0.5)), Box("sofa", (1.5, 3, 0), (1, 1, 0.8))
    assert bool(holding(ball, *anchors)) == holds


def test_the_distance_is_that_of_the_nearest_points():
    a, b = things(Box("box", (0, 3, 0), (1, 1, 1)), Box("box", (2, 3, 0), (1, 1, 1)))
    pairs = np.linalg.norm(a.points[:, None] - b.points[None], axis=-1)
    assert relations.distance(a, b) == pytest.approx(pairs.min(), abs=1e-6)
    assert relations.distance(a, a) == pytest.approx(0, abs=1e-6)


def test_things_do_not_change_with_the_unit_of_the_world():
    boxes = Box("chair", (-1, 2, 0)), Box("wall", (0, 4, 0), (4, 0.1, 2.5))
    small = room(*boxes, metric=False, scale=0.1)
    view = viewpoint(small)
    chair = thing(small, view, "chair", 0, 1.0, np.flatnonzero(small.instances == 0))
    assert chair.center == pytest.approx([-1, 2, -1.3], abs=0.15)


def test_the_words_of_the_grammar_are_those_that_have_a_meaning():
    assert set(RELATIONS) == set(HOLDS)
    assert set(RANKS) == set(ORDERS)
    assert set(HOLDS) | set(ORDERS) > VIEWED
    assert set(HOLDS) > set(ROUGHLY)
