"""Poses that come with a source: taken, or not, or never those of our own map."""

import numpy as np
import pytest
from ros_messages import compressed, tf, transform

from ffsplat.stream.frame import Verdict
from ffsplat.stream.ros.mcap_writer import McapWriter
from ffsplat.stream.ros.store import COMPRESSED_IMAGE, TF, definition, to_cdr
from tests.cli.standing import stream
from tests.stream.mappers import StandIn, jpeg, picture

S = 10**9


@pytest.fixture
def ride(tmp_path):
    """A robot that moves by a metre a second, as MCAP."""
    path = tmp_path / "ride.mcap"
    with path.open("wb") as file:
        writer = McapWriter(file, "another")
        channels = [
            writer.add_channel(topic, kind, definition(kind), {})
            for topic, kind in (("/tf", TF), ("/eye/image/compressed", COMPRESSED_IMAGE))
        ]
        for i in range(1, 5):
            moved = tf(transform("odom", "camera", i * S, (i, 0, 0)))
            seen = compressed(jpeg(picture(40 * i)), "jpeg", time_ns=i * S)
            for channel, message in zip(channels, (moved, seen), strict=True):
                writer.write(channel, i * S, i * S, to_cdr(message))
        writer.close()
    return path


def given(mapper) -> list[float | None]:
    """How far each camera had come by what its sender said."""
    return [None if pose is None else pose[0, 3] for _, _, _, pose, *_ in mapper.seen]


@pytest.mark.parametrize(
    ("options", "expected"), [([], [1, 2, 3, 4]), (["--no-poses"], [None] * 4)]
)
def test_the_poses_of_a_robot_are_taken_unless_they_are_not_wanted(
    mapper, ride, tmp_path, options, expected
):
    assert stream(ride, "--out", tmp_path / "s.ply", *options).code == 0
    assert given(mapper) == expected


def test_a_map_does_not_take_its_own_recording_for_the_truth(mapper, ride, tmp_path):
    def add(*arguments, number, **options):
        StandIn.add(mapper, *arguments, number=number, **options)
        return Verdict(number, "keyframe", np.eye(4))

    mapper.add = add
    assert stream(ride, "--record", tmp_path / "own.mcap").code == 0
    mapper.answer()
    outcome = stream(tmp_path / "own.mcap", "--out", tmp_path / "s.ply")
    assert given(mapper) == [None] * 4
    assert outcome.err.startswith("warning: /ffsplat/image/compressed was made by ffsplat: its")
    mapper.answer()
    assert stream(tmp_path / "own.mcap", "--out", tmp_path / "t.ply", "--no-poses").err == ""


@pytest.mark.parametrize("source", [["walk.mp4"], ["webcam"], []])
def test_poses_are_not_refused_to_who_gives_none(mapper, clip, tmp_path, source):
    words = [clip if word == clip.name else word for word in source]
    outcome = stream(*words, "--serve", "--no-poses")
    assert outcome.code == 2
    assert "error: " in outcome.err
    assert ("is for a source" if not source else "has no poses") in outcome.err
    assert "hint: " in outcome.err
