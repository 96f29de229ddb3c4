import threading

import numpy as np
import pytest

from ffsplat.stream.beside import Beside
from ffsplat.stream.correction import MOST_STEPS, Correction
from ffsplat.stream.graph.edges import PoseError
from ffsplat.stream.graph.graph import GraphFit, PoseGraph
from tests.stream.graph.test_graph import circle, drift

COUNT, SPREAD = 8, PoseError(0.05, 0.1, 0.05)


@pytest.fixture
def graph() -> PoseGraph:
    """A circle that shrinks, with a loop."""
    graph, truth = PoseGraph(), circle(COUNT)
    pose = truth[0]
    for node in range(COUNT):
        if node:
            pose = pose @ truth[node - 1].inverse() @ truth[node] @ drift(scale=0.98)
        graph.add_node(node, pose)
        if node:
            before = graph.poses[node - 1]
            graph.add_edge(node - 1, node, before.inverse() @ pose, SPREAD)
    graph.add_edge(0, COUNT - 1, truth[0].inverse() @ truth[-1], SPREAD, loop=True)
    return graph


def assert_same_state(one: GraphFit, other: GraphFit):
    states = one.state(), other.state()
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], name)


def test_what_is_seen_has_taken_the_steps_that_were_asked_for(graph):
    expected, found = graph.fit({0}), Correction(lambda: graph.fit({0}), Beside(None), stride=2)
    arrived = False
    while not arrived:
        assert_same_state(found.fit, expected)
        arrived = found.advance()
        expected.run(2)
    assert_same_state(found.fit, expected)
    assert expected.done
    assert 2 < found.steps < MOST_STEPS


def test_a_late_one_takes_its_steps_a_frame_later(graph):
    prompt, late = (
        Correction(lambda: graph.fit({0}), Beside(None), steps, stride=2) for steps in (0, -2)
    )
    assert not late.advance()
    assert late.steps == 0
    assert_same_state(late.fit, graph.fit({0}))
    assert late.advance() == prompt.advance()
    assert late.steps == prompt.steps == 2
    assert_same_state(late.fit, prompt.fit)


def test_a_late_one_has_two_frames_time_for_its_steps(graph, monkeypatch):
    fit, begun, beside = graph.fit({0}), [], Beside(None)
    monkeypatch.setattr(
        fit, "after", lambda steps: begun.append(steps) or GraphFit.after(fit, steps)
    )
    late = Correction(lambda: fit, beside, -2, stride=2)
    for _ in range(2):
        beside.submit(lambda: None).result()  # all that was asked for before is done
        assert begun == [2]
        late.advance()


def test_it_ends_after_the_most_steps(graph):
    correction = Correction(lambda: graph.fit({0}), Beside(None), MOST_STEPS - 1)
    assert correction.advance()
    assert correction.steps == MOST_STEPS


def test_the_next_steps_are_done_beside(graph):
    go, beside = threading.Event(), Beside(None)
    beside.submit(go.wait)
    correction = Correction(lambda: graph.fit({0}), beside)
    go.set()
    assert not correction.fit.done
    assert correction.advance()


def test_what_is_forgotten_stays_so_in_the_steps_on_their_way(graph):
    correction = Correction(lambda: graph.fit({0}), Beside(None))
    correction.fit.forget(3)
    assert correction.advance()
    assert correction.fit.found().keys() == set(range(1, COUNT)) - {3}


def test_a_fit_begun_later_is_of_the_graph_as_it_was(graph):
    begin, before = graph.later_fit({0}), graph.fit({0}).state()
    graph.remove_node(2)
    for name, array in begin().state().items():
        np.testing.assert_array_equal(array, before[name], name)
