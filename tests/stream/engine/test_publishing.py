"""Changes of the map: who gets them, when, and what flush waits for."""

import threading
import time

from ffsplat.stream.engine.engine import Engine
from ffsplat.stream.engine.publishing import GLANCE_S, PATIENCE, Publisher
from tests.stream.engine.busy import WAIT, busy
from tests.stream.mappers import StandIn, frame


def test_changes_go_to_all_subscribers_in_order(run):
    first, second = [], []
    engine = run(StandIn(), publish_s=0.0, drop="block")
    engine.subscribe(first.append)
    unsubscribe = engine.subscribe(second.append)
    for number in range(5):
        engine.offer(frame(number))
    assert engine.flush(WAIT)
    unsubscribe()
    engine.offer(frame(5))
    assert engine.flush(WAIT)
    assert [delta.number for delta in first] == [1, 2, 3, 4, 5, 6]
    assert [delta.number for delta in second] == [1, 2, 3, 4, 5]
    assert all(one is other for one, other in zip(first, second, strict=False))


def test_changes_in_a_short_time_go_out_together(run):
    deltas = []
    engine = run(StandIn(), publish_s=1000.0, drop="block")
    engine.subscribe(deltas.append)
    for number in range(50):
        engine.offer(frame(number))
    assert engine.flush(WAIT)
    waited = engine.settings.queue + 1  # flush wants the changes of those at once
    assert 2 <= len(deltas) <= 1 + waited


def test_the_last_changes_go_out_though_no_frame_follows(run):
    came = threading.Semaphore(0)
    engine = run(StandIn(), publish_s=0.02)
    engine.subscribe(lambda delta: came.release())
    for number in range(2):
        engine.offer(frame(number))
    assert came.acquire(timeout=WAIT)
    assert came.acquire(timeout=WAIT)


def test_a_delta_waits_for_a_mapper_at_work_beside_but_not_for_ever():
    mapper, came = StandIn(changed=True), []
    mapper.settled = False
    publisher = Publisher(mapper, every_s=0.05)
    publisher.subscribe(came.append)
    publisher.publish()
    mapper.changed = True
    publisher.note_change()
    time.sleep(0.06)
    assert publisher.wait_s == GLANCE_S
    assert not publisher.due
    mapper.settled = True
    assert publisher.due
    mapper.settled = False
    time.sleep(0.05 * PATIENCE)
    assert publisher.due
    publisher.publish()
    assert len(came) == 2


def test_a_map_that_was_saved_is_there_before_any_frame(run):
    came = threading.Event()
    engine = run(StandIn(changed=True, keyframes=7))
    engine.subscribe(lambda delta: came.set())
    assert came.wait(WAIT)
    assert "ffsplat_map_keyframes 7" in engine.metrics()
    assert engine.latency()["publish"].count == 1


def test_flush_waits_for_the_frames_so_far_not_for_later_ones(run):
    """A source that never rests would otherwise keep everybody waiting."""
    engine, mapper, verdicts = busy(run, queue=5, publish_s=0.0)
    hold = threading.Event()
    mapper._answers = iter(["keyframe", hold])
    deltas = []
    engine.subscribe(deltas.append)
    engine.offer(frame(1), verdicts)
    sofar = engine.counters().received
    engine.offer(frame(2), verdicts)
    assert engine.flush(0.01, upto=sofar) is False
    mapper.gate.set()
    assert engine.flush(WAIT, upto=sofar)
    assert verdicts.reasons == {0: "keyframe", 1: "keyframe"}
    assert len(deltas) == 2
    assert engine.flush(0.01) is False
    hold.set()
    assert engine.flush(WAIT)
    assert len(deltas) == 3


def test_flush_waits_until_verdicts_have_been_told(run):
    engine, told = run(StandIn(["keyframe"])), []

    def tell(verdict):
        engine.counters()  # the verdict is counted: a flush that looked now could go on
        time.sleep(0.05)
        told.append(verdict.number)

    engine.offer(frame(0), tell)
    assert engine.flush(WAIT)
    assert told == [0]


def test_flush_does_not_wait_for_a_worker_that_has_ended():
    engine = Engine(StandIn())
    engine.offer(frame(0))
    engine.start()
    engine.stop(WAIT)
    assert engine.flush()


def test_the_first_subscriber_gets_what_changed_before(run):
    deltas = []
    engine = run(StandIn())
    engine.offer(frame(0))
    assert engine.flush(WAIT)
    engine.subscribe(deltas.append)
    assert engine.flush(WAIT)
    assert len(deltas) == 1
