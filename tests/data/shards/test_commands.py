"""`python -m data rooms` and `verify`."""

import numpy as np
import pytest
from click.testing import CliRunner

from data.__main__ import main
from data.rooms import SPLITS, render_rooms
from data.shards import ShardDataset

SIZE = ["--views", "2", "--size", "16", "--split", "preview"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("batch", [1, 2])
def test_rooms_become_clips(tmp_path, batch):
    made = run(
        "rooms", "--out", tmp_path, "--scenes", 3, "--seed-start", 5, "--batch", batch, *SIZE
    )
    assert made.exit_code == 0, made.output
    assert "rooms-000000.tar  3 clips" in made.output
    dataset = ShardDataset(tmp_path)
    assert len(dataset) == 3
    seed = SPLITS["preview"][7]
    clip, room = dataset[2], render_rooms([seed], 2, 16, 16)
    assert (clip.key, clip.source, clip.metric) == (f"room-{seed:010d}", "rooms", True)
    assert np.abs(clip.images / 255 - room.image[0].numpy()).max() < 0.5 / 255 + 1e-6
    step = float(room.depth.max()) / 65535
    assert np.abs(clip.depth - room.depth[0].numpy()).max() < 0.501 * step
    for name in ("whole", "part", "instance", "intrinsics", "world_from_camera"):
        assert np.array_equal(getattr(clip, name), getattr(room, name)[0].numpy()), name


def test_interrupted_rooms_go_on(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = ["--shard", 1, "--views", 2, "--size", 8]
    run("rooms", "--out", whole, "--scenes", 3, *options)
    run("rooms", "--out", stopped, "--scenes", 2, *options)
    (stopped / "index.json").unlink()
    made = run("rooms", "--out", stopped, "--scenes", 3, *options)
    assert made.exit_code == 0, made.output
    assert contents(stopped) == contents(whole)
    again = run("rooms", "--out", stopped, "--scenes", 3, *options)
    assert again.exit_code == 5
    assert "holds a finished set of shards\nhint: name another folder" in again.output


def test_training_rooms_cannot_reach_held_out_seeds(tmp_path):
    start = SPLITS["heldout_v1"].start - 1
    made = run("rooms", "--out", tmp_path, "--scenes", 2, "--seed-start", start)
    assert made.exit_code == 1
    assert "do not fit in train" in made.output
    assert contents(tmp_path) == {}


def test_verify_says_a_line_a_shard(shards):
    told = run("verify", shards)
    assert told.exit_code == 0, told.output
    lines = [f"test-{i:06d}.tar  ok  {n} clips" for i, n in enumerate([5, 5, 5, 2])]
    assert told.output.splitlines() == lines
    path = shards / "test-000001.tar"
    content = bytearray(path.read_bytes())
    content[-1500] ^= 4
    path.write_bytes(content)
    told = run("verify", shards)
    assert told.exit_code == 1
    assert told.output.splitlines() == [
        lines[0],
        "test-000001.tar  bad  its sha256 is not that of the index",
        *lines[2:],
        "Error: 1 shards are damaged",
    ]
    nothing = run("verify", "pipe:touch x")
    assert nothing.exit_code == 2
    assert "not an address of shards" in nothing.output
