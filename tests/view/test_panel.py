"""The list of matches: what it says, that it is cut, and that its buttons stay."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.types import LEVELS
from ffsplat.view import viewing
from ffsplat.view.panel import EVERY, LISTED
from ffsplat.view.session import Session


@pytest.fixture
def viewer(tmp_path):
    """Of a room in which the wall is in ten pieces, each an instance and smaller than the last."""
    room = small_room(1000)
    instances = room.instances.copy()
    instances[500:] = 10 + np.repeat(np.arange(10), [95, 85, 75, 65, 55, 45, 35, 20, 15, 10])
    pieces = replace(room, instances=instances)
    with viewing(pieces, folder=tmp_path, port=0) as (viewer, _):
        yield viewer


def labels(viewer) -> list[str]:
    return [button.label for button in viewer.panel._listed]


def test_matches_are_listed_with_their_scores_and_the_rest_is_counted(viewer):
    assert not viewer.panel.matches.visible
    viewer.do(lambda: viewer.ask("wall"))
    assert viewer.panel.matches.visible
    assert labels(viewer) == [f"{number}  wall  1.00" for number in range(1, LISTED + 1)]
    assert viewer.panel._listed[0].hint.startswith("95 Gaussians")
    told = f"{LISTED} of {len(viewer.session.hits)} for &#x27;wall&#x27;, by score and size"
    assert told in viewer.panel.asked.content


def test_a_viewer_offers_the_levels_that_a_scene_has(viewer):
    level, room = viewer.panel.level, viewer.session.scene
    assert level.options == (EVERY, "whole", "part")
    levels = room.codebook.levels.copy()
    levels[room.codebook.names.index("sofa")] = LEVELS.index("subpart")
    deep = replace(room, codebook=replace(room.codebook, levels=levels))
    viewer.follow(deep, np.zeros(1000, int), lambda chosen: chosen)
    assert level.options == (EVERY, "whole", "part", "subpart")


def test_a_level_that_is_refused_is_not_shown(viewer):
    viewer.do(lambda: viewer.ask("wall"))
    level = viewer.panel.level
    level.value = "part"
    viewer.do(lambda: viewer.ask_at("part"))
    assert viewer.panel.said.startswith("'wall' names nothing of level part")
    assert level.value == EVERY


def test_a_scene_without_its_codebook_says_so(viewer):
    viewer.session = Session(replace(viewer.session.scene, codebook=None), viewer.session.folder)
    viewer.panel.invite()
    viewer.refresh()
    assert "codebook is missing" in viewer.panel.said
    assert not viewer.panel.text.visible


def test_a_button_stays_while_what_it_stands_for_changes(viewer):
    viewer.do(lambda: viewer.ask("wall"))
    first = viewer.panel._listed[0]
    viewer.do(lambda: viewer.ask("sofa"))
    assert labels(viewer) == ["1  sofa  1.00"]
    assert viewer.panel._listed[0] is first
    viewer.do(lambda: viewer.ask("wall"))
    assert labels(viewer)[0] == "1  wall  1.00"
    assert len(labels(viewer)) == LISTED
    viewer.do(lambda: viewer.ask(""))
    assert labels(viewer) == []
    assert not viewer.panel.matches.visible
