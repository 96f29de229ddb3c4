"""Writing shards: readable by WebDataset, the same bytes every time, going on where it stopped."""

import hashlib
import json
import tarfile

import numpy as np
import pytest
import webdataset

from data.shards import ShardDataset, ShardError, encode_clip, write_shards, written_keys
from data.shards.index import parse_index
from data.shards.members import unpack
from data.shards.writer import pack
from ffsplat.errors import FFSplatError, OutputError, UsageError


def clips(make_clip, count, first=0):
    return (make_clip(f"clip-{i:02d}", i) for i in range(first, count))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_webdataset_lists_the_same_keys_and_bytes(shards, make_clip):
    for number, shard in enumerate(sorted(shards.glob("*.tar"))):
        read = list(webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False))
        expected = list(range(5 * number, min(5 * number + 5, 17)))
        assert [sample["__key__"] for sample in read] == [f"clip-{i:02d}" for i in expected]
        for i, sample in zip(expected, read, strict=True):
            parts = {name: value for name, value in sample.items() if not name.startswith("__")}
            assert parts == encode_clip(make_clip(f"clip-{i:02d}", i))


def test_the_index_says_what_tarfile_finds(shards):
    index = json.loads((shards / "index.json").read_text())
    assert index["format"] == "ffsplat.shards 1"
    assert [entry["count"] for entry in index["shards"]] == [5, 5, 5, 2]
    for entry in index["shards"]:
        content = (shards / entry["name"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        with tarfile.open(shards / entry["name"]) as archive:
            members = archive.getmembers()
        for key, offset, size, _ in entry["samples"]:
            mine = [m for m in members if m.name.startswith(key + ".")]
            assert offset == mine[0].offset
            assert offset + size == mine[-1].offset_data + -(-mine[-1].size // 512) * 512


def test_members_say_nothing_about_the_machine(shards):
    with tarfile.open(shards / "test-000000.tar") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o444)
            assert member.isreg()


def test_clips_come_back(shards, make_clip, same):
    dataset = ShardDataset(shards)
    assert len(dataset) == 17
    for i in (16, 0, 5, 4):
        same(dataset[i], make_clip(f"clip-{i:02d}", i))
    for i in (17, -1):
        with pytest.raises(IndexError):
            dataset[i]


def test_two_runs_write_the_same_bytes(tmp_path, make_clip):
    for name in "ab":
        write_shards(clips(make_clip, 4), tmp_path / name, max_count=3)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_shard_ends_by_bytes(tmp_path, make_clip):
    size = len(pack("clip-00", encode_clip(make_clip("clip-00"))))
    limit = int(2.9 * size)
    index = write_shards(clips(make_clip, 5), tmp_path, max_bytes=limit)
    assert [len(shard) for shard in index.shards] == [2, 2, 1]
    assert all(shard.size <= limit for shard in index.shards)
    lonely = write_shards(clips(make_clip, 2), tmp_path / "lonely", max_bytes=1)
    assert [len(shard) for shard in lonely.shards] == [1, 1]


@pytest.mark.parametrize("again", ["all", "missing"])
def test_an_interrupted_run_goes_on(tmp_path, make_clip, again):
    write_shards(clips(make_clip, 8), tmp_path / "whole", max_count=3)

    def stopping():
        yield from clips(make_clip, 7)
        raise KeyboardInterrupt

    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        write_shards(stopping(), folder, max_count=3)
    assert sorted(contents(folder)) == ["clips-000000.tar", "clips-000001.tar"]
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert written_keys(folder, "clips") == {f"clip-{i:02d}" for i in range(6)}
    rest = clips(make_clip, 8, 0 if again == "all" else 6)
    write_shards(rest, folder, max_count=3)
    assert contents(folder) == contents(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_run_that_only_lacks_its_index_gets_it(shards, make_clip):
    before = contents(shards)
    (shards / "index.json").unlink()
    write_shards(clips(make_clip, 17), shards, "test", max_count=5)
    assert contents(shards) == before


def test_a_run_that_cannot_go_on_is_refused(tmp_path, shards, make_clip):
    with pytest.raises(OutputError, match="finished set"):
        write_shards(clips(make_clip, 2), shards, "test")
    (shards / "index.json").unlink()
    with pytest.raises(OutputError, match=r"test-000000\.tar does not belong"):
        write_shards(clips(make_clip, 2), shards, "other")
    (shards / "test-000001.tar").unlink()
    with pytest.raises(OutputError, match="does not belong"):
        write_shards(clips(make_clip, 2), shards, "test")


def test_a_truncated_shard_stops_a_run_that_goes_on(shards, make_clip):
    (shards / "index.json").unlink()
    last = shards / "test-000003.tar"
    last.write_bytes(last.read_bytes()[:-1024])
    with pytest.raises(ShardError, match=r"test-000003\.tar: truncated"):
        write_shards(clips(make_clip, 20), shards, "test")


def test_failures_leave_no_half_shard(tmp_path, make_clip):
    def unreadable():
        yield make_clip("a")
        raise FileNotFoundError(2, "no such file", "frame.jpg")

    for source, error, message in (
        (unreadable(), FFSplatError, "cannot read the source of the clips: .*frame.jpg"),
        ((make_clip("a") for _ in range(2)), ShardError, "clip a stands there twice"),
        (iter(()), ShardError, "no clips"),
        (iter([make_clip(source="")]), ShardError, "clip a: not a name"),
    ):
        with pytest.raises(error, match=message):
            write_shards(source, tmp_path / "out")
        assert contents(tmp_path / "out") == {}


def test_senseless_limits_and_names_are_refused(tmp_path, make_clip):
    with pytest.raises(UsageError):
        write_shards(clips(make_clip, 1), tmp_path, max_count=0)
    with pytest.raises(UsageError):
        write_shards(clips(make_clip, 1), tmp_path, "../x")
    assert contents(tmp_path) == {}
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        write_shards(clips(make_clip, 1), tmp_path / "file")


def test_the_longest_key_fits(make_clip):
    clip = make_clip("k" * 79)
    parts = encode_clip(clip)
    assert unpack(pack(clip.key, parts), clip.key) == parts
    with pytest.raises(ValueError, match="not a key"):
        make_clip("k" * 80)


def test_an_index_locates_every_clip(shards):
    index = parse_index((shards / "index.json").read_bytes(), "index")
    found = [index.locate(i)[1].key for i in range(len(index))]
    assert found == [f"clip-{i:02d}" for i in range(17)]
    assert np.array_equal(index.ends, [5, 10, 15, 17])
