"""What a legend says of colours: the names that are seen, the ends of a bar, and nothing else."""

import re
from dataclasses import replace

import numpy as np
from small_room import small_room

from ffsplat.query import query
from ffsplat.render.colors import to_bytes
from ffsplat.view.legend import MOST, legend, name_of
from ffsplat.view.paint import COLORINGS, Look, depth_range, paint

ROOM = small_room(100)


def told(scene, coloring: str, found=None) -> list[str]:
    """The words of a legend."""
    return re.findall(r">([^<]+)<", legend(scene, Look(coloring), found))


def test_names_stand_beside_the_colours_that_are_shown():
    for coloring, names in {
        "code": ["wall", "table", "sofa"],
        "instance": ["2 wall", "0 table", "1 sofa"],
    }.items():
        assert told(ROOM, coloring) == names
        swatches = re.findall(r"rgb\((\d+),(\d+),(\d+)\)", legend(ROOM, Look(coloring), None))
        shown = to_bytes(paint(ROOM, Look(coloring))[[50, 0, 30]])
        assert [list(map(int, swatch)) for swatch in swatches] == shown.tolist()


def test_bars_say_their_ends():
    near, far = depth_range(ROOM, Look("depth"))
    assert told(ROOM, "depth") == [f"near {near:.2f}", f"{far:.2f} far"]
    assert told(replace(ROOM, metric=True), "depth")[0] == f"near {near:.2f} m"
    assert told(ROOM[:0], "depth") == ["near", "far"]
    assert told(ROOM, "score", query(ROOM, "table")) == ["score 0.50", "1.00"]
    assert told(ROOM, "rgb") == []
    assert told(ROOM, "score") == []


def test_many_things_are_cut_and_counted_whatever_their_numbers_are():
    many = replace(ROOM, codes=None, instances=np.arange(100, dtype=np.int32) * 20_000_000)
    names = told(many, "instance")
    assert names[:2] == ["0", "20000000"]
    assert len(names) == MOST + 1
    assert names[-1] == "and 88 more"


def test_names_are_never_taken_for_html():
    names = tuple(f"<b>{name}" for name in ROOM.codebook.names)
    evil = replace(ROOM, codebook=replace(ROOM.codebook, names=names))
    assert told(evil, "code")[0] == "&lt;b&gt;wall"


def test_an_empty_scene_has_a_legend_of_nothing():
    for coloring in COLORINGS:
        assert legend(ROOM[:0], Look(coloring), None).count("<script") == 0
    assert told(ROOM[:0], "code") == ["nothing has any"]


def test_a_thing_has_the_name_of_most_of_it():
    assert name_of(ROOM[:40]) == "table"  # thirty of the table, ten of the sofa
    assert name_of(ROOM[:0]) == ""
    assert name_of(replace(ROOM, codes=None)) == ""
