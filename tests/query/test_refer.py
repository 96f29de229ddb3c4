from dataclasses import replace

import numpy as np
import pytest
from toyrooms import Box, room

from ffsplat.embeddings import TextEmbedding
from ffsplat.errors import UnknownWord, UsageError
from ffsplat.query import query

RED, BLUE = (0.9, 0.0, 0.0), (0.0, 0.2, 0.9)

BOXES = (
    Box("table", (0, 3, 0), (1.2, 0.8, 0.75)),
    Box("chair", (-1.5, 3, 0), (0.5, 0.5, 0.9), RED),
    Box("chair", (1.5, 3, 0), (0.5, 0.5, 0.9), BLUE),
    Box("chair", (1.0, 5, 0), (0.4, 0.4, 0.6), BLUE),
    Box("bed", (-2, 5, 0), (1.5, 2.0, 0.5)),
    Box("floor lamp", (-0.8, 5, 0), (0.3, 0.3, 1.6)),
    Box("floor lamp", (2.5, 2, 0), (0.3, 0.3, 1.4)),
    Box("cup", (0.3, 3, 0.75), (0.1, 0.1, 0.1)),
    Box("cup", (-2, 4.6, 0.5), (0.1, 0.1, 0.1)),
)
TABLE, LEFT, RIGHT, SMALL, BED, LAMP, OTHER_LAMP, CUP, OTHER_CUP = range(9)


@pytest.fixture(scope="module")
def scene():
    return room(*BOXES)


def refer(scene, text, **options):
    found = query(scene, text, strategy="refer", **options)
    return sorted(hit.instance for hit in found.hits)


@pytest.mark.parametrize(
    ("text", "instances"),
    [
        ("the table", [TABLE]),
        ("the chair left of the table", [LEFT]),
        ("the red chair", [LEFT]),
        ("the chair that is red", [LEFT]),
        ("chairs right of the table", [RIGHT, SMALL]),
        ("the chair behind the table and right of the bed", [SMALL]),
        ("the lamp nearest the bed", [LAMP]),
        ("the lamp farthest from the bed", [OTHER_LAMP]),
        ("the nearest lamp", [OTHER_LAMP]),
        ("the cup on the table", [CUP]),
        ("the cup on the bed", [OTHER_CUP]),
        ("cups", [CUP, OTHER_CUP]),
        ("the smallest chair", [SMALL]),
        ("the second chair from the left", [SMALL]),
        ("the rightmost chair", [RIGHT]),
        ("the second largest chair right of the table", [SMALL]),
        ("the table between the red chair and the lamp", [TABLE]),
        ("the blue chair nearest the table", [RIGHT]),
        ("all furniture near the cup on the bed", [BED]),
        ("the lamp near the bed that is left of the small chair", None),
    ],
)
def test_a_phrase_finds_what_it_means(scene, text, instances):
    if instances is None:
        with pytest.raises(UnknownWord):
            refer(scene, text)
    else:
        assert refer(scene, text) == instances


def test_only_what_is_meant_has_a_score(scene):
    found = query(scene, "the chair left of the table", strategy="refer")
    assert (found.scores > 0).tolist() == (scene.instances == LEFT).tolist()
    assert found.hits[0].name == "chair"


def test_the_viewpoint_is_said_where_it_matters_and_can_be_chosen(scene):
    found = query(scene, "the chair left of the table", strategy="refer")
    assert found.notes == ("seen from camera front; up is that of all cameras",)
    assert refer(scene, "chairs left of the table", camera="back") == [RIGHT, SMALL]
    assert query(scene, "the cup on the table", strategy="refer").notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the chair", "which of 3 things 'chair': chair"),
        ("the chair right of the table", "which of 2 things 'chair'"),
        ("the sofa", "the scene has no 'sofa'"),
        ("the chair left of the sofa", "the scene has no 'sofa'"),
        ("the bed right of the table", "no 'bed' (of 1) is right of 'table'"),
        ("the fifth chair from the left", "no number 5 of 'chair': there are 3"),
        ("the table nearest the table", "no 'table' is nearest to another 'table'"),
        ("the chair not left of the table", "'not' is not understood"),
    ],
)
def test_what_means_nothing_or_too_much_is_refused_in_one_line(scene, text, message):
    with pytest.raises(UsageError) as caught:
        refer(scene, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ambiguous_things_are_listed_with_their_instances_and_places(scene):
    with pytest.raises(UsageError) as caught:
        refer(scene, "the chair")
    for instance in (LEFT, RIGHT, SMALL):
        assert f"chair {instance} (" in str(caught.value)
    assert "degrees left" in str(caught.value)


def test_two_readings_with_different_answers_are_refused():
    boxes = (
        Box("table", (-1.5, 3, 0), (1.2, 0.8, 0.75)),
        Box("table", (2.5, 3, 0), (1.2, 0.8, 0.75)),
        Box("chair", (-3, 3, 0)),  # left of the table that is near the lamp
        Box("chair", (1.1, 3.4, 0)),  # left of a table, and itself near the lamp
        Box("floor lamp", (0, 3.5, 0), (0.9, 0.3, 1.6)),
    )
    scene = room(*boxes)
    with pytest.raises(UsageError, match="can be read in 2 ways"):
        refer(scene, "chair left of a table near the lamp")
    assert refer(scene, "chair left of a table and near the lamp") == [3]


def test_gaussians_of_no_instance_are_no_thing_beside_those_of_one(scene):
    scraps = scene.instances.copy()
    scraps[scene.instances == SMALL] = -1
    loose = replace(scene, instances=scraps)
    assert refer(loose, "chairs") == [LEFT, RIGHT]
    assert refer(replace(scene, instances=np.full_like(scraps, -1)), "the table") == [-1]


def test_a_saved_text_is_no_phrase(scene):
    saved = TextEmbedding("chair", "lexicon", np.zeros(3, np.float32), np.zeros((0, 3), np.float32))
    with pytest.raises(UsageError, match="in words"):
        query(scene, saved, strategy="refer")


def test_nouns_cannot_be_found_by_referring(scene):
    with pytest.raises(UsageError):
        refer(scene, "the chair left of the table", nouns="refer")
