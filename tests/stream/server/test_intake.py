"""What becomes of the frames of a session."""

import threading

import numpy as np

from ffsplat.stream.protocol.control import Ack, Pose
from ffsplat.stream.server.serve import ServerThread
from ffsplat.stream.server.settings import ServerSettings
from tests.stream.server.standin import StandIn
from tests.stream.server.talk import JPEG, PATIENCE, client, frame, metric, serving


def test_every_frame_is_acknowledged_once_and_posed():
    with serving() as (engine, address), client(address) as one:
        one.greet(want=("ack", "pose"))
        pose = np.eye(4)
        pose[0, 3] = 2.5
        engine.epoch = 4
        one.send(frame(1, pose=pose, intrinsics=np.diag([500.0, 400, 1])))
        answer = one.wait_for(Pose)
        assert (answer.seq, answer.time_ns, answer.epoch) == (1, 1_000_000, 4)
        assert answer.pose == tuple(np.eye(4).ravel())
        ack = one.wait_for(Ack).frames
        assert [(a.seq, a.used, a.reason) for a in ack] == [(1, True, "keyframe")]
        assert ack[0].milliseconds == {"network": 2.0}
        for number in (1, 1, 0):
            one.send(frame(number))
        one.send(frame(2))
        assert [a.seq for a in one.wait_for(Ack).frames] == [2]
        assert [f.number for f in engine.offered] == [1, 2]
        assert engine.offered[0].pose[0, 3] == 2.5
        assert engine.offered[0].intrinsics[1, 1] == 400
        assert metric(address, "repeated_frames_total") == 3


def test_a_frame_too_many_is_refused_and_the_others_wait():
    with serving(StandIn(held=True), max_in_flight=2) as (engine, address), client(address) as one:
        one.greet(want=("ack",), drop="block")
        for number in (1, 2, 3):
            one.send(frame(number))
        refused = one.wait_for(Ack).frames
        assert [(a.seq, a.used, a.reason) for a in refused] == [(3, False, "queue_full")]
        for _ in range(2):
            assert engine.came.acquire(timeout=PATIENCE)
        counters = engine.counters()
        assert (counters.received, counters.dropped["queue_full"], counters.queued) == (3, 1, 2)
        engine.release()
        assert [a.seq for a in one.wait_for(Ack).frames] == [1]
        one.send(frame(4))
        assert engine.came.acquire(timeout=PATIENCE)
        assert [f.number for f in engine.offered] == [1, 2, 4]


class Blocking(StandIn):
    """An engine whose `offer` waits, as under the policy "block"."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def offer(self, frame, done=None, wanted=lambda: True):
        self.came.release()
        assert self.go.wait(PATIENCE)
        if wanted():
            super().offer(frame, done)


def test_frames_of_a_client_that_left_are_not_begun():
    with serving(Blocking()) as (engine, address):
        with client(address) as one:
            one.greet()
            for number in (1, 2, 3, 4):
                one.send(frame(number))
            assert engine.came.acquire(timeout=PATIENCE)
        with client(address) as two:
            two.greet()  # by now the first is gone
            while metric(address, "sessions") > 1:
                pass
            engine.go.set()
            two.send(frame(5))
            two.wait_for(Ack)
        assert [f.number for f in engine.offered] == [5]


def test_of_frames_that_wait_for_the_engine_the_newest_are_kept():
    with serving(Blocking(), max_in_flight=2) as (engine, address), client(address) as one:
        one.greet(want=("ack",), drop="latest")
        one.send(frame(1))
        assert engine.came.acquire(timeout=PATIENCE)
        for number in range(2, 8):
            one.send(frame(number))
        lost = []
        while len(lost) < 4:
            lost += one.wait_for(Ack).frames
        assert [(a.seq, a.reason) for a in lost] == [(n, "queue_full") for n in (2, 3, 4, 5)]
        engine.go.set()
        used = []
        while len(used) < 3:
            used += one.wait_for(Ack).frames
        assert [(a.seq, a.reason) for a in used] == [(n, "keyframe") for n in (1, 6, 7)]


def test_who_wants_to_know_is_told_of_each_frame_and_its_verdict():
    told = []
    server = ServerThread(
        StandIn(),
        settings=ServerSettings(port=0),
        note=lambda sent, verdict: told.append((sent.number, sent.image, verdict.reason)),
    )
    with server:
        assert server.address is not None
        with client(server.address) as one:
            one.greet(want=("ack",))
            for number in (1, 2):
                one.send(frame(number))
                one.wait_for(Ack)
    assert told == [(1, JPEG, "keyframe"), (2, JPEG, "keyframe")]
