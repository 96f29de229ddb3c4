"""Asking, selecting, hiding, changing and saving, without any page."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.edit import Extract, Label, Recolor, Remove
from ffsplat.errors import FFSplatError, OutputError, UnknownWord, UsageError
from ffsplat.io import load_scene
from ffsplat.query import STRATEGIES
from ffsplat.view.session import Session, file_name, strategies_for

TABLE = np.arange(100) < 30
AHEAD = np.array([0.0, 0.0, 1.0])


@pytest.fixture
def session(tmp_path) -> Session:
    return Session(small_room(100), tmp_path)


def test_a_question_lights_up_what_matches(session):
    session.ask("table")
    assert [hit.name for hit in session.hits] == ["table"]
    assert session.look.coloring == "score"
    session.ask(" ")
    assert session.hits == ()
    assert session.look.coloring == "rgb"


def test_an_unknown_word_changes_nothing(session):
    session.ask("sofa")
    with pytest.raises(UnknownWord):
        session.ask("tabel")
    assert [hit.name for hit in session.hits] == ["sofa"]
    assert session.text == "sofa"


def test_settings_answer_again(session):
    session.ask("table")
    session.ask_from(1.5)
    assert session.hits == ()
    session.ask_by("lexicon")
    assert session.found.threshold == 0.5
    assert len(session.hits) == 1
    session.ask_at("whole")
    assert len(session.hits) == 1
    with pytest.raises(FFSplatError):
        session.ask_at("part")
    assert session.level == "whole"


def test_a_level_is_that_of_codes_too(session):
    session.ask_at("part")
    assert session.look.level == "part"
    session.ask_at(None)
    assert session.look.level == "whole"


def test_another_strategy_lights_up_what_matches(session):
    session.ask("table")
    with pytest.raises(UsageError):
        session.ask_by("part-in-whole")
    assert session.look.coloring == "rgb"
    session.ask_by(None)
    assert session.look.coloring == "score"


def test_labels_are_told_apart_and_are_the_commonest_things_at_first(session):
    session.ask("table")
    session.ask_by("softmax")
    assert set(session.labels) == {"table", "sofa"}
    assert [hit.count for hit in session.hits] == [30]
    session.labels = ("sofa", "wall")
    session.ask("table")
    assert session.found.labels == ("table", "sofa", "wall")
    session.ask_by("cosine")  # has no use for labels
    assert session.found.strategy == "cosine"


def test_a_strategy_that_is_offered_answers_or_says_what_it_wants(session):
    offered = strategies_for(session.scene)
    assert set(STRATEGIES) - set(offered) == {"relevancy", "nested"}
    session.ask("table")
    for name in set(offered) - {"growing"}:  # which compiles for a second
        if name == "part-in-whole":
            with pytest.raises(UsageError, match="does not name a part"):
                session.ask_by(name)
            assert (session.found, session.strategy) == (None, name)
        else:
            session.ask_by(name)
            assert session.found.strategy == name


def test_a_hit_can_be_selected(session):
    session.ask("table")
    assert session.select_hit(0).name == "table"
    assert (session.selected == TABLE).all()
    with pytest.raises(UsageError):
        session.select_hit(1)


def test_a_click_selects_the_instance_that_is_met(session):
    session.click(np.zeros(3), AHEAD, "instance")
    assert (session.selected == TABLE).all()
    session.click(np.zeros(3), -AHEAD, "instance")
    assert not session.selected.any()


def test_what_is_hidden_cannot_be_clicked(session):
    session.click(np.zeros(3), AHEAD, "row")
    session.hide()
    assert (session.hidden == TABLE).all()
    session.click(np.array([0.1, 0, 0]), AHEAD, "instance")
    assert not session.selected[TABLE].any()
    session.show_all()
    assert not session.hidden.any()


def test_what_cannot_be_clicked_is_said(session):
    with pytest.raises(UsageError, match="has no part"):
        session.click(np.zeros(3), AHEAD, "part")


def test_isolating_hides_all_else(session):
    session.click(np.zeros(3), AHEAD, "instance")
    session.isolate()
    assert (session.hidden == ~TABLE).all()
    assert len(session.pictured()) == 30


@pytest.mark.parametrize("action", ["hide", "isolate"])
def test_nothing_selected_is_said(session, action):
    with pytest.raises(UsageError, match="nothing is selected"):
        getattr(session, action)()


def test_removing_keeps_what_is_hidden_and_can_be_undone(session):
    session.hidden = np.arange(100) >= 90
    session.selected = TABLE.copy()
    session.ask("table")
    session.edit(Remove())
    assert len(session.scene) == len(session.selected) == 70
    assert (session.hidden == (np.arange(70) >= 60)).all()
    assert session.hits == ()
    session.undo()
    assert len(session.scene) == len(session.hidden) == 100
    assert len(session.hits) == 1
    assert session.can_redo
    session.redo()
    assert len(session.scene) == 70


def test_extracting_keeps_the_selection_alone(session):
    session.selected = TABLE.copy()
    session.edit(Extract())
    assert (session.scene.instances == 0).all()
    assert len(session.scene) == 30


def test_recolouring_and_naming_keep_the_selection(session):
    session.selected = TABLE.copy()
    session.show_as("code")
    session.edit(Recolor([0.0, 1.0, 0.0]))
    assert session.selected.sum() == 30
    assert (session.colors()[TABLE].argmax(axis=1) == 1).all()  # seen as such, without the tint
    session.ask("table")
    session.select_hit(0)
    assert session.is_marked
    session.edit(Label("bed"))
    session.ask("bed")
    assert session.hits[0].count == 30


def test_a_colouring_that_the_scene_lacks_is_refused_at_once(session):
    with pytest.raises(UsageError, match="nothing was asked"):
        session.show_as("score")
    assert session.look.coloring == "rgb"
    session.show_as("instance")
    assert len(np.unique(session.colors(), axis=0)) == 3


def test_the_selection_is_saved_once(session, tmp_path):
    session.selected = TABLE.copy()
    session.save("table")
    assert len(load_scene(tmp_path / "table.ply")) == 30
    with pytest.raises(OutputError, match="already exists"):
        session.save("table.ply")
    assert load_scene(tmp_path / "table.ply").codebook is not None


@pytest.mark.parametrize(
    "name", ["", " ", ".ply", ".hidden", "../up", "a/b.ply", "a\\b", "C:x", "a\nb", "x" * 101, "\0"]
)
def test_a_name_is_a_name_alone(name, session, tmp_path):
    session.selected = TABLE.copy()
    with pytest.raises(UsageError, match="no name of a file"):
        session.save(name)
    assert list(tmp_path.iterdir()) == []


def test_names_end_in_ply():
    assert file_name(" chair ") == "chair.ply"
    assert file_name("chair.PLY") == "chair.PLY"
    assert file_name("a chair.v2") == "a chair.v2.ply"


def test_what_is_pictured_has_the_colours_that_are_shown(session):
    session.show_as("instance")
    pictured = session.pictured()
    np.testing.assert_allclose(pictured.gaussians.colors, session.colors(), atol=1e-6)


def test_another_scene_keeps_the_question(session):
    session.ask("table")
    grown = small_room(200)
    session.follow(grown, np.zeros(200, bool), np.zeros(200, bool))
    assert session.hits[0].count == 60
    assert not session.can_undo


def test_a_scene_that_cannot_answer_is_shown_in_its_colours(session):
    session.ask("table")
    mute = replace(small_room(200), codes=None, codebook=None)
    with pytest.raises(FFSplatError):
        session.follow(mute, np.zeros(200, bool), np.zeros(200, bool))
    assert session.hits == ()
    assert (session.colors() == mute.gaussians.colors).all()
