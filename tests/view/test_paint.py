"""Colours of what is shown, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.render.spherical import sh_colors
from ffsplat.types import LEVELS
from ffsplat.view.paint import COLORINGS, SELECTED, TINT, Look, heaviest, paint, possible

ROOM = small_room(100)
TABLE, SOFA, WALL = slice(0, 30), slice(30, 50), slice(50, 100)


def colors(coloring: str, scene=ROOM, **options) -> np.ndarray:
    found = options.pop("found", None)
    return paint(scene, Look(coloring, **options), found)


def is_grey(values: np.ndarray) -> bool:
    return bool(np.allclose(values, values[:, :1], atol=1e-3))


def test_colours_are_those_of_the_scene():
    np.testing.assert_allclose(colors("rgb")[TABLE], [[0.9, 0.1, 0.1]] * 30, atol=1e-6)


def test_colours_are_those_that_the_renderer_sees_from_there():
    sh = np.random.default_rng(0).normal(size=(100, 9, 3)).astype(np.float32)
    shiny = replace(ROOM, gaussians=replace(ROOM.gaussians, sh=sh))
    eye = np.array([0.3, -2, 1], np.float32)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, 3] = eye
    seen = colors("rgb", shiny, world_from_camera=pose)
    wanted = sh_colors(sh, shiny.gaussians.means - eye).clip(0, 1)
    np.testing.assert_allclose(seen, wanted, atol=1e-6)
    assert (colors("rgb", shiny) == shiny.gaussians.colors).all()


def test_a_scene_offers_the_colourings_that_it_has():
    assert possible(ROOM, None) == ("rgb", "depth", "code", "instance", "confidence")
    assert possible(ROOM, query(ROOM, "table")) == tuple(COLORINGS)
    bare = replace(ROOM, codes=None, codebook=None, instances=None)
    for coloring in possible(bare, None):
        assert colors(coloring, bare).shape == (100, 3)
    assert possible(bare, None) == ("rgb", "depth", "confidence")


def test_what_is_selected_is_tinted():
    selected = np.arange(100) == 3
    painted = paint(ROOM, Look(), None, selected)
    own = np.array([0.9, 0.1, 0.1])
    np.testing.assert_allclose(painted[3], TINT * SELECTED + (1 - TINT) * own, atol=1e-6)
    assert (painted[~selected] == ROOM.gaussians.colors[~selected]).all()


def test_near_is_brighter_than_far():
    brightness = colors("depth").sum(axis=1)
    assert brightness[TABLE].min() > brightness[WALL].max()


def test_depth_is_measured_from_the_camera():
    behind = np.diag([-1.0, 1, -1, 1]).astype(np.float32)
    behind[2, 3] = 6
    brightness = colors("depth", world_from_camera=behind).sum(axis=1)
    assert brightness[TABLE].max() < brightness[WALL].min()


@pytest.mark.parametrize("coloring", ["code", "instance"])
def test_things_have_a_colour_each(coloring):
    painted = colors(coloring)
    kinds = [np.unique(painted[rows], axis=0) for rows in (TABLE, SOFA, WALL)]
    assert [len(kind) for kind in kinds] == [1, 1, 1]
    assert len(np.unique(np.concatenate(kinds), axis=0)) == 3


def test_without_evidence_there_is_no_code():
    rows, weights = heaviest(ROOM, "part")
    assert (rows == -1).all()
    assert (weights == 0).all()
    assert is_grey(colors("code", level="part"))


def test_parts_of_parts_are_a_level_of_their_own():
    levels = ROOM.codebook.levels.copy()
    levels[ROOM.codebook.names.index("sofa")] = LEVELS.index("subpart")
    deep = replace(ROOM, codebook=replace(ROOM.codebook, levels=levels))
    named = heaviest(deep, "subpart")[0] >= 0
    assert (np.flatnonzero(named) == np.arange(100)[SOFA]).all()


def test_what_is_sure_is_brighter():
    codes = ROOM.codes
    weights = codes.weights.copy()
    weights[SOFA, 0] = 0.2
    doubtful = replace(ROOM, codes=replace(codes, weights=weights))
    brightness = colors("confidence", doubtful).sum(axis=1)
    assert brightness[SOFA].max() < brightness[TABLE].min()


def test_what_matches_is_hot_and_all_else_grey():
    painted = colors("score", found=query(ROOM, "table"))
    assert is_grey(painted[30:])
    assert not is_grey(painted[TABLE])


def test_below_the_threshold_all_is_grey():
    found = replace(query(ROOM, "table"), threshold=1.1)
    assert is_grey(colors("score", found=found))


@pytest.mark.parametrize("coloring", COLORINGS)
def test_an_empty_scene_has_no_colours(coloring):
    found = query(ROOM, "table")
    nothing = replace(found, scores=found.scores[:0])
    assert colors(coloring, ROOM[:0], found=nothing).shape == (0, 3)


@pytest.mark.parametrize(
    ("coloring", "missing", "told"),
    [
        ("code", "codes", "no codes"),
        ("code", "codebook", "no codes"),
        ("instance", "instances", "no instances"),
        ("score", "provenance", "nothing was asked"),
        ("smell", "provenance", "unknown colouring"),
    ],
)
def test_what_a_scene_lacks_is_refused(coloring, missing, told):
    scene = replace(ROOM, **{missing: None if missing != "provenance" else {}})
    with pytest.raises(UsageError, match=told):
        colors(coloring, scene)
