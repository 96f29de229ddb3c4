import pytest

from ffsplat.errors import UsageError
from ffsplat.query.phrases import RANKS, RELATIONS, Description, Rank, Relation, parse

TABLE = Description("table", definite=True)
DOOR = Description("door", definite=True)


def only(text):
    readings = parse(text)
    assert len(readings) == 1
    return readings[0]


def related(name, *anchors, noun="chair"):
    return Description(noun, definite=True, relations=(Relation(name, anchors),))


@pytest.mark.parametrize(
    ("name", "words"),
    [(name, words) for name, every in RELATIONS.items() for words in every if name != "between"],
)
def test_every_word_for_a_relation_is_understood(name, words):
    assert only(f"the chair {words} the table") == related(name, TABLE)


@pytest.mark.parametrize("words", RELATIONS["between"])
def test_between_has_two_anchors(words):
    assert only(f"the chair {words} the table and the door") == related("between", TABLE, DOOR)


def test_between_a_plural_has_the_same_anchor_twice():
    chairs = Description("chairs", definite=True, plural=True)
    assert only("the ball between the chairs") == related("between", chairs, chairs, noun="ball")


@pytest.mark.parametrize("name", ["largest", "smallest", "tallest", "highest", "lowest"])
def test_superlatives_stand_before_the_noun(name):
    for word in RANKS[name]:
        assert only(f"the {word} chair") == Description("chair", True, False, Rank(name))


@pytest.mark.parametrize(
    "text",
    [
        "the lamp nearest the bed",
        "the lamp closest to the bed",
        "the nearest lamp to the bed",
        "the lamp that is nearest to the bed",
    ],
)
def test_the_nearest_may_have_an_anchor(text):
    rank = Rank("nearest", 1, Description("bed", definite=True))
    assert only(text) == Description("lamp", True, False, rank)


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("the second chair from the left", Rank("leftmost", 2)),
        ("the chair third from the right", Rank("rightmost", 3)),
        ("the 2nd largest chair", Rank("largest", 2)),
        ("the leftmost chair", Rank("leftmost")),
        ("the chair on the left", Rank("leftmost")),
        ("the nearest chair", Rank("nearest")),
    ],
)
def test_places_in_an_order(text, rank):
    assert only(text) == Description("chair", True, False, rank)


def test_colours_and_parts_stay_with_the_noun():
    assert only("a red chair").noun == "red chair"
    assert only("the chair that is red").noun == "red chair"
    assert only("the leg of the red chair left of the table").noun == "leg of red chair"


@pytest.mark.parametrize(
    ("text", "plural"),
    [("chairs", True), ("the chair", False), ("all the books", True), ("the glass", False),
     ("bookshelves", True), ("each lamp", True), ("legs of the chair", True)],
)  # fmt: skip
def test_plurals_are_seen(text, plural):
    assert only(text).plural == plural


def test_a_clause_may_belong_to_either_noun():
    near_door = Description("table", True, relations=(Relation("near", (DOOR,)),))
    both = (Relation("on", (TABLE,)), Relation("near", (DOOR,)))
    assert parse("the cup on the table near the door") == (
        related("on", near_door, noun="cup"),
        Description("cup", True, relations=both),
    )
    assert parse("the cup on the table and near the door") == (
        Description("cup", True, relations=both),
    )


def test_the_s_of_possession_and_stops_are_dropped():
    assert only("The chair, left of the table.") == related("left", TABLE)


@pytest.mark.parametrize(
    "text",
    ["", "the", "left of the table", "the chair not near the table", "the chair left table",
     "the second chair", "the chair and the table", "of the chair", "the chair left of",
     "the chair opposite the door", "the chair between the table", "the larger chair",
     "the largest nearest chair", "the two chairs", "the chair near it", "x" * 600,
     "the chair near " + " near ".join(["the table"] * 5)],
)  # fmt: skip
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(UsageError):
        parse(text)
