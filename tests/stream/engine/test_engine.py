"""The engine: verdicts, drop policies, refusals, counts, the end of a stream."""

import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from ffsplat.errors import UsageError
from ffsplat.stream.engine.engine import Engine, EngineSettings
from ffsplat.stream.engine.traffic import Traffic
from ffsplat.stream.frame import Frame, Verdict
from tests.stream.engine.busy import WAIT, busy
from tests.stream.mappers import StandIn, Verdicts, frame, jpeg, picture


def numbers(mapper: StandIn) -> list[int]:
    return [seen[0] for seen in mapper.seen]


def test_every_frame_gets_its_verdict(run):
    verdicts = Verdicts()
    engine = run(StandIn(["keyframe", "tracked", "blurred", "keyframe"]))
    for number in range(4):
        engine.offer(frame(number), verdicts)
    assert engine.flush(WAIT)
    assert verdicts.reasons == {0: "keyframe", 1: "tracked", 2: "blurred", 3: "keyframe"}
    counters = engine.counters()
    assert counters.received == 4
    assert counters.processed == {"keyframe": 2, "tracked": 1}
    assert counters.dropped["blurred"] == 1
    assert counters.queued == 0


def test_a_verdict_tells_the_seconds_of_all_stages(run):
    verdicts = Verdicts()
    engine = run(StandIn(), publish_s=0.0)
    engine.subscribe(lambda delta: None)
    engine.offer(frame(0, jpeg(picture())), verdicts)
    (verdict,) = verdicts.wait(1)
    assert set(verdict.seconds) == {"decode", "queue", "network", "fuse"}
    assert verdict.seconds["network"] == 0.002
    assert verdict.seconds["decode"] > 0
    assert engine.flush(WAIT)
    latency = engine.latency()
    assert latency["network"].p50 == pytest.approx(0.002, rel=0.03)
    assert latency["total"].count == latency["publish"].count == 1


class Early(StandIn):
    """Tells the verdict at once; the map takes the frame in when it may, or cannot."""

    def __init__(self, *answers):
        super().__init__(answers)
        self.may = threading.Event()

    def add(self, *arguments, tell, **options):
        tell(Verdict(options["number"], "keyframe", seconds={"place": 0.001}))
        assert self.may.wait(WAIT)
        return super().add(*arguments, **options)


def test_nobody_waits_for_the_map_to_learn_a_verdict(run):
    verdicts, mapper = Verdicts(), Early()
    engine = run(mapper)
    engine.offer(frame(0), verdicts)
    (verdict,) = verdicts.wait(1)
    assert verdict.reason == "keyframe"
    assert set(verdict.seconds) == {"decode", "queue", "place"}
    assert engine.counters().queued == 0
    assert not engine.flush(0.05)  # the map has it not yet
    mapper.may.set()
    assert engine.flush(WAIT)
    assert mapper.keyframes == 1
    assert len(verdicts.all) == 1
    assert engine.latency()["fuse"].p50 == pytest.approx(0.001, rel=0.03)


def test_a_verdict_that_was_told_stands_if_the_map_then_fails(run):
    verdicts, mapper = Verdicts(), Early(RuntimeError("no room"))
    mapper.may.set()
    engine = run(mapper)
    engine.offer(frame(0), verdicts)
    assert engine.flush(WAIT)
    assert verdicts.reasons == {0: "keyframe"}
    assert engine.degraded


def test_the_mapper_gets_the_picture_at_a_useful_size_with_its_intrinsics(run):
    mapper, pose = StandIn(), np.eye(4)
    intrinsics = np.array([[400.0, 0, 320], [0, 400, 240], [0, 0, 1]])
    engine = run(mapper)
    big = jpeg(picture(size=(640, 480)))
    engine.offer(frame(0, big, time_ns=17, pose=pose, intrinsics=intrinsics))
    assert engine.flush(WAIT)
    number, shape, time_ns, got_pose, got_intrinsics, size = mapper.seen[0]
    assert (number, shape, time_ns) == (0, (120, 160, 3), 17)
    assert got_pose is pose
    assert np.array_equal(got_intrinsics, intrinsics)
    assert size == (640, 480)


def test_under_latest_the_newest_frames_are_used(run):
    engine, mapper, verdicts = busy(run, queue=2)
    for number in range(1, 6):
        engine.offer(frame(number), verdicts)
    assert verdicts.reasons == dict.fromkeys([1, 2, 3], "queue_full")
    mapper.gate.set()
    assert engine.flush(WAIT)
    assert numbers(mapper) == [0, 4, 5]


def test_under_keyframe_a_frame_that_shows_nothing_new_goes(run):
    engine, mapper, verdicts = busy(run, queue=2, drop="keyframe")
    for number, shift in ((1, 20), (2, 20), (3, 10)):
        engine.offer(frame(number, np.roll(picture(), shift, axis=1)), verdicts)
    assert verdicts.reasons == {2: "queue_full"}
    mapper.gate.set()
    assert engine.flush(WAIT)
    assert numbers(mapper) == [0, 1, 3]


def test_under_block_every_frame_is_used_in_order(run):
    mapper, verdicts = StandIn(), Verdicts()
    engine = run(mapper, queue=1, drop="block")
    for number in range(200):
        engine.offer(frame(number), verdicts)
    assert engine.flush(WAIT)
    assert numbers(mapper) == list(range(200))
    assert set(verdicts.reasons.values()) == {"keyframe"}


def blocked_offer(engine: Engine, number: int, verdicts: Verdicts) -> threading.Thread:
    source = threading.Thread(target=engine.offer, args=(frame(number), verdicts))
    source.start()
    return source


def test_under_block_a_source_waits_until_there_is_room(run):
    engine, mapper, verdicts = busy(run, queue=1, drop="block")
    engine.offer(frame(1), verdicts)
    source = blocked_offer(engine, 2, verdicts)
    assert verdicts.all == []
    mapper.gate.set()
    source.join(WAIT)
    assert engine.flush(WAIT)
    assert verdicts.reasons == dict.fromkeys([0, 1, 2], "keyframe")


def test_under_block_a_source_is_let_go_when_the_stream_ends(run):
    engine, mapper, verdicts = busy(run, queue=1, drop="block")
    engine.offer(frame(1), verdicts)
    source = blocked_offer(engine, 2, verdicts)
    stopping = threading.Thread(target=engine.stop, args=(WAIT,))
    stopping.start()
    source.join(WAIT)
    assert not source.is_alive()
    assert verdicts.reasons == {2: "shutdown"}
    mapper.gate.set()
    stopping.join(WAIT)
    assert verdicts.reasons == {0: "keyframe", 1: "keyframe", 2: "shutdown"}


def test_under_block_nobody_waits_for_ever(run):
    engine, mapper, verdicts = busy(run, queue=1, drop="block", block_s=0.01)
    engine.offer(frame(1), verdicts)
    engine.offer(frame(2), verdicts)
    assert verdicts.reasons == {2: "queue_full"}
    mapper.gate.set()


def test_frames_that_cannot_be_are_refused_by_name(run):
    wrong = {
        "too_large": [
            frame(1, b"x" * 2000),
            frame(2, np.zeros((400, 400, 3), np.uint8)),
            frame(3, jpeg(np.zeros((400, 400, 3), np.uint8))[:900]),
        ],
        "undecodable": [frame(4, b""), frame(5, b"\xff\xd8\xff\xe0 no more")],
        "invalid": [
            frame(6, pose=np.full((4, 4), np.nan)),
            frame(7, intrinsics=np.diag([np.inf, 1.0, 1.0])),
            frame(2**63),
            frame(8, time_ns=-(2**63) - 1),
        ],
    }
    verdicts = Verdicts()
    engine = run(StandIn(), queue=20, max_bytes=1000, max_megapixels=0.1)
    for frames in wrong.values():
        for one in frames:
            engine.offer(one, verdicts)
    assert engine.flush(WAIT)
    expected = {one.number: reason for reason, frames in wrong.items() for one in frames}
    assert verdicts.reasons == expected
    assert not engine.degraded


def test_a_frame_that_a_sender_had_no_room_for_counts(run):
    engine = run(StandIn())
    engine.offer(frame(0))
    engine.count_overrun()
    engine.offer(frame(1))
    assert engine.flush(WAIT)
    counters = engine.counters()
    assert counters.balanced
    assert (counters.received, counters.dropped["queue_full"]) == (3, 1)


def test_repeated_and_late_frames_are_refused(run):
    verdicts = [Verdicts() for _ in range(3)]
    engine = run(StandIn())
    for one, verdict in zip((frame(5), frame(5), frame(3)), verdicts, strict=True):
        engine.offer(one, verdict)
    assert engine.flush(WAIT)
    reasons = [verdict.all[0].reason for verdict in verdicts]
    assert reasons == ["keyframe", "repeated", "late"]


def test_an_engine_is_ready_when_the_network_has_run(run):
    mapper, gate = StandIn(), threading.Event()
    mapper.warm = lambda: gate.wait(WAIT)
    engine = Engine(mapper)
    assert not engine.alive
    engine.start()
    assert engine.alive
    assert not engine.ready
    gate.set()
    engine.offer(frame(0))
    assert engine.flush(WAIT)
    assert engine.ready
    engine.stop()
    assert not engine.ready
    assert not engine.alive


def test_stop_works_on_what_waits_and_saves(run, tmp_path):
    engine, mapper, verdicts = busy(run, checkpoint=tmp_path / "state", checkpoint_every=100)
    for number in (1, 2):
        engine.offer(frame(number), verdicts)
    mapper.gate.set()
    assert engine.stop(WAIT)
    engine.offer(frame(3), verdicts)
    assert verdicts.reasons == {**dict.fromkeys([0, 1, 2], "keyframe"), 3: "shutdown"}
    (saved,) = (tmp_path / "state").iterdir()
    assert saved.read_text() == "3"
    assert engine.stop(WAIT)


def test_an_engine_that_stopped_leaves_no_thread_behind(monkeypatch):
    before, overdue = set(threading.enumerate()), Traffic.overdue

    def slow(traffic, seconds):
        found = overdue(traffic, seconds)
        time.sleep(0.1)  # as on a machine where a thread waits for its turn
        return found

    monkeypatch.setattr(Traffic, "overdue", slow)
    engine = Engine(StandIn(), EngineSettings())
    engine.start()
    assert engine.stop(WAIT)
    assert set(threading.enumerate()) <= before


def test_stop_gives_up_after_its_time(run):
    engine, mapper, verdicts = busy(run)
    engine.offer(frame(1), verdicts)
    assert engine.stop(0.02) is False
    assert verdicts.reasons == {0: "shutdown", 1: "shutdown"}
    assert engine.counters().balanced
    mapper.gate.set()
    assert engine.stop(WAIT)
    assert mapper.keyframes == 0


def test_an_engine_that_never_started_stops(tmp_path):
    verdicts = Verdicts()
    engine = Engine(StandIn(), EngineSettings(checkpoint=tmp_path / "none"))
    engine.offer(frame(0), verdicts)
    assert engine.stop()
    assert verdicts.reasons == {0: "shutdown"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("policy", ["latest", "keyframe", "block"])
def test_the_counts_add_up_at_every_scrape(run, policy):
    """Many sources, damaged and repeated frames, and a network that fails."""
    answers = np.random.default_rng(0).choice(
        ["keyframe", "tracked", "blurred", "raise", "lost"], 100_000
    )
    errors = (RuntimeError("now and then") if one == "raise" else str(one) for one in answers)
    engine = run(StandIn(errors), queue=3, drop=policy)
    images = [picture(), b"broken", jpeg(picture(90))]
    over = threading.Event()

    def hammer(source: int) -> None:
        number = source
        while not over.is_set():
            engine.offer(Frame(images[number % 3], number * 1000, number))
            number += 3  # sources meet: numbers repeat and are late

    sources = [threading.Thread(target=hammer, args=(source,)) for source in range(6)]
    for source in sources:
        source.start()
    scrapes = [engine.counters()]
    end = time.monotonic() + WAIT
    while scrapes[-1].received < 300 and time.monotonic() < end:
        scrapes += [engine.counters() for _ in range(100)]
    over.set()
    for source in sources:
        source.join(WAIT)
    assert engine.flush(WAIT)
    assert all(counters.balanced for counters in scrapes)
    assert all(0 <= counters.queued <= 3 + 1 for counters in scrapes)
    received = [counters.received for counters in scrapes]
    assert all(before <= after for before, after in pairwise(received))
    last = engine.counters()
    assert (last.queued, last.balanced) == (0, True)
    assert last.received >= 300


def test_done_is_called_once_for_each_frame_whatever_happens(run):
    verdicts = Verdicts()
    engine = run(StandIn(["keyframe", ValueError("x")] * 50), queue=2)
    sources = [
        threading.Thread(
            target=lambda first=first: [
                engine.offer(frame(number), verdicts) for number in range(first, 400, 4)
            ]
        )
        for first in range(4)
    ]
    for source in sources:
        source.start()
    for source in sources:
        source.join(WAIT)
    engine.stop(WAIT)
    assert len(verdicts.reasons) == engine.counters().received == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"drop": "newest"},
        {"queue": 0},
        {"hang_s": float("nan")},
        {"publish_s": -1.0},
        {"checkpoint_every": 0},
        {"hang_s": 9.0, "stuck_s": 5.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises((UsageError, TypeError)):
        EngineSettings(**wrong)
