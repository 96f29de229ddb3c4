"""A map that grows in the viewer: what comes, what is sent again, and how it ends."""

from dataclasses import replace

import numpy as np
import pytest

from ffsplat.errors import StreamError
from ffsplat.stream.delta import MapDelta
from ffsplat.stream.protocol.errors import ProtocolError
from ffsplat.stream.server.serve import ServerThread
from ffsplat.stream.server.settings import ServerSettings
from ffsplat.view import live, viewing
from ffsplat.view.live import Follower, carried, empty_scene, stream_url
from ffsplat.view.slots import SLOT
from tests.stream.server.standin import StandIn, make_delta
from tests.view.pages import until

TOKEN = "0123456789abcdef"


def in_submap(number: int, submap: int) -> MapDelta:
    """A delta whose Gaussians and frame are in a submap, and a slot, of their own."""
    delta = make_delta(number)
    submaps = np.full(len(delta.splats.gids), submap, np.uint16)
    return replace(
        delta,
        splats=replace(
            delta.splats, gids=delta.splats.gids + np.uint32(SLOT * submap), submaps=submaps
        ),
        removed=delta.removed[:0],
        submaps=np.array([submap], np.uint16),
        submap_poses=np.array([[1.0, 1, 0, 0, 0, 0, 0, 0]]),
        frames=replace(delta.frames, submaps=np.array([submap], np.uint16)),
    )


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("ws://127.0.0.1:8765", "ws://127.0.0.1:8765/stream"),
        ("ws://127.0.0.1:8765/", "ws://127.0.0.1:8765/stream"),
        ("wss://a.example/maps/1", "wss://a.example/maps/1"),
    ],
)
def test_an_address_without_a_path_has_the_usual_one(given, url):
    assert stream_url(given) == url


def test_a_choice_is_carried_by_the_places():
    chosen = np.array([True, False, True])
    before, now = np.array([3, 5, 9]), np.array([2, 3, 5, 8, 9])
    assert carried(chosen, before, now).tolist() == [False, True, False, False, True]


@pytest.fixture
def stream(monkeypatch, tmp_path):
    """A server of a stream and a viewer that follows it."""
    monkeypatch.setattr(live, "BREATH_SECONDS", 0.01)
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    engine, told = StandIn(), []
    with (
        ServerThread(engine, None, ServerSettings(port=0, drain=2.0)) as server,
        viewing(empty_scene(), folder=tmp_path, port=0, can_edit=False) as (viewer, _),
    ):
        follower = Follower(server.address.stream, viewer, "", told.append)
        follower.start()
        yield engine, server, viewer, told
        follower.stop()


def grown(viewer, count: int) -> None:
    until(lambda: len(viewer.session.scene) == count, f"the map never had {count} Gaussians")
    until(lambda: viewer.screen.drawn[0] == count, f"{count} Gaussians were never sent")


def test_the_map_is_shown_while_it_grows_and_only_what_is_new_is_sent(stream):
    engine, _, viewer, _ = stream
    engine.publish_delta(in_submap(1, 0))
    grown(viewer, 20)
    engine.publish_delta(in_submap(2, 1))
    grown(viewer, 40)
    before = viewer.screen.slots.sent_bytes
    engine.publish_delta(in_submap(3, 2))
    grown(viewer, 60)
    assert viewer.screen.slots.sent_bytes - before == SLOT * 32
    assert len(viewer.session.scene.cameras) == 3


def test_question_and_selection_go_on(stream):
    engine, _, viewer, _ = stream
    engine.publish_delta(in_submap(1, 0))
    grown(viewer, 20)
    viewer.do(lambda: viewer.ask("chair"))
    viewer.do(lambda: viewer.go_to(0, None))
    assert viewer.session.selected.all()
    engine.publish_delta(in_submap(2, 1))
    grown(viewer, 40)
    assert viewer.session.hits[0].count == 40
    assert viewer.session.selected.sum() == 20
    assert viewer.panel.said.startswith("20 Gaussians selected")


def test_a_question_waits_for_the_first_gaussians(stream):
    engine, _, viewer, _ = stream
    viewer.do(lambda: viewer.ask("chair"))
    assert viewer.panel.said.startswith("Nothing is here yet; 'chair'")
    engine.publish_delta(in_submap(1, 0))
    grown(viewer, 20)
    assert viewer.panel.said.startswith("1 match for 'chair'")
    assert viewer.session.look.coloring == "score"


def test_how_many_match_is_said_of_the_map_as_it_is(stream):
    engine, _, viewer, _ = stream
    engine.publish_delta(in_submap(1, 0))
    grown(viewer, 20)
    viewer.do(lambda: viewer.ask("chair"))
    assert viewer.panel.said.startswith("1 match for 'chair'")
    with viewer._lock:
        scene = viewer.session.scene
    twice = replace(scene, instances=np.arange(20, dtype=np.int32) // 10)
    viewer.follow(twice, np.zeros(20, int), lambda chosen: chosen)
    assert viewer.panel.said.startswith("2 matches for 'chair'")


def test_the_end_of_the_stream_is_said_and_the_map_stays(stream):
    engine, server, viewer, told = stream
    engine.publish_delta(in_submap(1, 0))
    grown(viewer, 20)
    server.stop()
    until(lambda: bool(told), "nobody told of the end")
    assert told[0].startswith("the stream has ended")
    assert "the stream has ended" in viewer.panel.status.content
    assert len(viewer.session.scene) == 20


def test_a_server_that_goes_and_comes_is_told_of(stream, monkeypatch, tmp_path):
    monkeypatch.setattr(live, "PATIENCE", 30.0)
    monkeypatch.setattr(live, "GLANCE_SECONDS", 0.01)
    _, server, _, _ = stream
    with viewing(empty_scene(), folder=tmp_path, port=0) as (viewer, _):
        follower = Follower(server.address.stream, viewer, "", print)
        follower.start()
        server.stop()
        until(lambda: viewer.panel.said.startswith("the server is away"), "nobody told of it")
        again = ServerSettings(port=server.address.port, drain=2.0)
        with ServerThread(StandIn(), None, again):
            until(lambda: viewer.panel.said == "the server is there again", "nobody told of it")
        follower.stop()


def test_nobody_there_is_said_at_once(tmp_path):
    with viewing(empty_scene(), folder=tmp_path, port=0) as (viewer, _):
        follower = Follower("ws://127.0.0.1:9", viewer, "", print)
        with pytest.raises(StreamError):
            follower.start()
        follower.stop()


def test_the_token_is_shown_to_the_server(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    settings = ServerSettings(port=0, drain=2.0, token_file=file)
    with (
        ServerThread(StandIn(), None, settings) as server,
        viewing(empty_scene(), folder=tmp_path, port=0) as (viewer, _),
    ):
        wrong = Follower(server.address.stream, viewer, "", print)
        with pytest.raises(ProtocolError):
            wrong.start()
        wrong.stop()
        right = Follower(server.address.stream, viewer, TOKEN, print)
        right.start()
        right.stop()
