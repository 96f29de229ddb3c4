"""The list of matches: what it says, that it is cut, and that its buttons stay."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.view import viewing
from ffsplat.view.panel import LISTED


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
