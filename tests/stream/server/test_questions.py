"""Queries and flushes over the wire."""

import numpy as np
import pytest

from ffsplat.query import query
from ffsplat.stream.protocol.control import Error, Flush, Flushed, Hits, Query
from tests.stream.server.standin import StandIn
from tests.stream.server.talk import PATIENCE, client, frame, serving


def test_a_question_is_answered_as_by_the_library():
    with serving() as (engine, address), client(address) as one:
        one.greet()
        engine.publish(3)
        one.follow(3)
        one.send(Query(7, "chair", max_hits=5))
        answer = one.wait_for(Hits)
        expected = query(one.map.scene(), "chair", max_hits=5).hits
        assert (answer.id, answer.number, len(answer.hits)) == (7, 3, len(expected))
        for found, hit in zip(answer.hits, expected, strict=True):
            assert (found.name, found.instance, found.count) == (hit.name, 3, hit.count)
            assert found.score == pytest.approx(hit.score)
            gids = one.map.snapshot().splats.gids
            assert found.places().tolist() == gids[np.sort(hit.rows)].tolist()
            np.testing.assert_allclose(found.center, hit.center, rtol=1e-6)
            np.testing.assert_allclose(found.minimum, hit.minimum, rtol=1e-6)
            np.testing.assert_allclose(found.maximum, hit.maximum, rtol=1e-6)


def test_a_question_that_has_no_answer_leaves_the_session_open():
    with serving() as (engine, address), client(address) as one:
        one.greet(want=())
        one.send(Query(1, "chair"))
        answer = one.wait_for(Error)
        assert answer.message == "the map has no codebook yet"
        assert answer.retryable
        engine.publish()
        one.send(Flush(2))
        one.wait_for(Flushed)
        for text in ("chxir", "", "/etc/passwd"):
            one.send(Query(3, text))
            error = one.wait_for(Error)
            assert (error.id, error.code) == (3, 4422)
        one.send(Query(4, "chxir"))
        assert "did you mean chair" in one.wait_for(Error).hint
        one.send(Query(5, "chair"))
        assert one.wait_for(Hits).id == 5


def test_what_fails_inside_is_told_without_details(monkeypatch):
    def fail(*_, **__):
        raise OSError("/secret/place is missing")

    monkeypatch.setattr("ffsplat.stream.server.queries.query", fail)
    with serving() as (engine, address), client(address) as one:
        one.greet(want=())
        engine.publish()
        one.send(Flush(1))
        one.wait_for(Flushed)
        one.send(Query(2, "chair"))
        error = one.wait_for(Error)
        assert (error.message, error.hint) == ("the query failed", "the server's log says why")


def test_questions_are_limited_but_do_not_end_a_session():
    with serving(max_queries=2.0) as (engine, address), client(address) as one:
        one.greet(want=())
        engine.publish()
        for number in range(6):
            one.send(Query(number, "chair"))
        answers = [one.receive() for _ in range(6)]
        refused = [a for a in answers if isinstance(a, Error) and a.code == 4429]
        assert len(refused) == 4
        assert all(a.retryable and a.retry_after_ms > 0 for a in refused)


def test_a_flush_is_answered_after_the_delta_it_names():
    with serving(StandIn(held=True)) as (engine, address), client(address) as one:
        one.greet()
        one.send(frame(1))
        one.send(frame(2))
        one.send(Flush(9))
        for _ in range(2):
            assert engine.came.acquire(timeout=PATIENCE)
        engine.release()
        engine.release()
        assert one.wait_for(Flushed) == Flushed(9, 2)
        assert one.map.number == 2


def test_a_flush_that_takes_too_long_says_so():
    with (
        serving(StandIn(held=True), idle=0.5, ping=0.1) as (_, address),
        client(address) as one,
    ):
        one.greet(want=())
        one.send(frame(1))
        one.send(Flush(9))
        error = one.wait_for(Error)
        assert (error.id, error.code, error.retryable) == (9, 4408, True)
