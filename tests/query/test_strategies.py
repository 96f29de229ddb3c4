"""The table of strategies and the options that each takes."""

import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass
from typing import Literal

import numpy as np
import pytest

from ffsplat.errors import UsageError
from ffsplat.query import STRATEGIES, query, strategy_named, usual_strategy
from ffsplat.query.options import describe, make_options, read_options
from ffsplat.query.question import Question
from ffsplat.text import CANON, LexiconSpace
from tests.query.rooms import lexicon_room
from tests.toyscenes import Vectors, saved, vector_book, vector_scene


@dataclass(frozen=True)
class Options:
    """Of a strategy that does not exist."""

    count: int
    share: float = 0.5
    low: float | None = None
    way: Literal["left", "right"] = "left"
    open: bool = True
    names: tuple[str, ...] = ("a", "b")
    mask: np.ndarray | None = None


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_what_its_row_says(name):
    strategy = STRATEGIES[name]
    assert strategy.name == name
    assert strategy.summary
    assert strategy.source
    assert is_dataclass(strategy.option_type)
    assert strategy.option_type.__doc__
    assert all("=" in word for word in describe(strategy.option_type).split(" ") if word)
    with pytest.raises(UsageError, match=f"strategy {name} has no option 'nonsense'"):
        strategy.options({"nonsense": 1})


def test_an_unknown_strategy_is_refused_with_those_that_exist():
    with pytest.raises(UsageError, match="unknown strategy 'cosines'") as caught:
        query(lexicon_room([{"chair": 1}]), "chair", strategy="cosines")
    assert "cosine, relevancy" in caught.value.hint
    assert strategy_named("cosine") is STRATEGIES["cosine"]


@pytest.mark.parametrize("count", [0, 1])
def test_every_strategy_answers_for_hardly_any_gaussians(count):
    book = vector_book({"a": np.eye(3)[0], "b": np.eye(3)[1]}, {"b": "part"})
    words = Vectors({"a": np.eye(3)[0], **dict.fromkeys(("b", *CANON), np.eye(3)[1])})
    given = {"softmax": {"labels": ("a", "b")}, "part-in-whole": {"whole": "a", "part": "b"}}
    for name in STRATEGIES:
        scene = vector_scene(book, [{"a": 1.0}] * count, [0] * count)
        if name in ("lexicon", "refer"):
            scene = lexicon_room([{"chair": 1}] * count, [0] * count)
        text = "chair" if name in ("lexicon", "refer") else "a"
        asked = (
            saved("a", np.eye(3)[0], np.eye(3)[1:2]) if name in ("relevancy", "nested") else text
        )
        space = words if asked == "a" else None
        if name == "refer":  # of too few to be a thing
            with pytest.raises(UsageError, match="the scene has no 'chair'"):
                query(scene, asked, strategy=name)
            continue
        found = query(scene, asked, strategy=name, space=space, **given.get(name, {}))
        assert found.scores.shape == (count,)
        assert not found.hits


def test_the_usual_strategy_follows_the_space_and_the_text():
    scene = vector_scene(vector_book({"a": np.eye(3)[0], "b": np.eye(3)[1]}), [{"a": 1.0}])
    assert usual_strategy(Question(scene, saved("a", np.eye(3)[0]))) == "cosine"
    assert usual_strategy(Question(scene, saved("a", np.eye(3)[0], np.eye(3)))) == "relevancy"
    room = lexicon_room([{"chair": 1}])
    assert usual_strategy(Question(room, "chair")) == "lexicon"
    assert query(room, "chair").strategy == "lexicon"
    named = len(LexiconSpace().parse("chair").rows["whole"])
    scores = room.query("chair", strategy="cosine", min_count=1).scores
    assert scores.tolist() == pytest.approx([1 / np.sqrt(named)], rel=1e-3)


def test_a_listing_imports_no_strategy():
    check = (
        "import sys; from ffsplat.query import STRATEGIES; list(STRATEGIES);"
        "print([m for m in ('parts', 'hyperplane', 'nested') if f'ffsplat.query.{m}' in "
        "sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_options_are_read_from_words():
    pairs = ["count=3", "share = 0.25", "low=-1e-3", "way=right", "open=no", "names=x, y,,z"]
    found = read_options(Options, "toy", pairs)
    assert found == {"count": 3, "share": 0.25, "low": -0.001, "way": "right", "open": False,
                     "names": ("x", "y", "z")}  # fmt: skip
    assert make_options(Options, "toy", found) == Options(**found)
    assert describe(Options) == "count= share=0.5 low= way=left|right open=yes names=a,b"
    assert {field.name for field in fields(Options)} > set(found)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["count"], "is no option"),
        (["=3"], "is no option"),
        (["length=3"], "no option 'length'"),
        (["count=3", "count=4"], "given twice"),
        (["count=3.5"], "not a whole number"),
        (["share=much"], "not a number"),
        (["way=up"], "not one of left, right"),
        (["open=perhaps"], "not yes or no"),
        (["mask=1"], "cannot be given in words"),
    ],
)
def test_words_that_are_no_options_are_refused(pairs, message):
    with pytest.raises(UsageError, match=message):
        read_options(Options, "toy", pairs)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -1e-3])
def test_no_number_of_a_strategy_is_without_bounds(name, value):
    strategy = STRATEGIES[name]
    bounded = {"two-step": {"stray", "low"}}.get(name, set())
    bounded |= {field.name for field in fields(strategy.option_type) if field.type is float}
    for option in bounded - ({"low"} if value < 0 else set()):
        with pytest.raises(UsageError, match=r"nan|inf|-0\.001"):
            strategy.options({option: value})


@pytest.mark.parametrize(
    ("name", "given"),
    [("relevancy", {"canon": ()}), ("two-step", {"neighbors": 0}), ("growing", {"max_seeds": 0})],
)
def test_options_that_leave_nothing_to_do_are_refused(name, given):
    with pytest.raises(UsageError):
        STRATEGIES[name].options(given)


def test_choices_and_what_must_be_given_are_checked():
    with pytest.raises(UsageError, match="needs the option count"):
        make_options(Options, "toy", {})
    with pytest.raises(UsageError, match="way of toy is 'up'"):
        make_options(Options, "toy", {"count": 1, "way": "up"})
