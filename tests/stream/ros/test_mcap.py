import pytest
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

from ffsplat.errors import StreamError
from ffsplat.stream.ros import mcap_reader
from ffsplat.stream.ros.mcap_reader import McapFile
from ffsplat.stream.ros.mcap_writer import CHUNK_BYTES, McapWriter

MESSAGES = [("/b" if i % 3 else "/a", 1000 + i // 2, b"%d" % i * 400) for i in range(3000)]


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.mcap", MESSAGES)


def write(path, messages, finish=True, every=None):
    with path.open("wb") as file:
        writer = McapWriter(file, "test")
        channels = {
            topic: writer.add_channel(topic, "std_msgs/msg/String", "string data\n", {"k": "v"})
            for topic in ("/a", "/b")
        }
        for i, (topic, time, data) in enumerate(messages):
            writer.write(channels[topic], time, time + 5, data)
            if every and i % every == 0:
                writer.flush()
        if finish:
            writer.close()
    return path


def in_order(messages):
    return sorted(messages, key=lambda message: message[1])


def test_the_reference_reader_reads_what_was_written_with_its_checksums(path):
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        found = [(c.topic, m.log_time, m.data) for _, c, m in reader.iter_messages()]
        times = {m.publish_time - m.log_time for _, _, m in reader.iter_messages()}
        summary = reader.get_summary()
    assert found == in_order(MESSAGES)
    assert times == {5}
    assert summary.statistics.message_count == 3000
    assert summary.statistics.chunk_count == len(summary.chunk_indexes) > 1
    assert summary.statistics.channel_message_counts == {1: 1000, 2: 2000}
    assert [s.name for s in summary.schemas.values()] == ["std_msgs/msg/String"]
    assert summary.channels[1].metadata == {"k": "v"}


def test_rosbags_reads_what_was_written(path):
    with Reader(path) as reader:
        found = [(c.topic, t, bytes(d)) for c, t, d in reader.messages()]
        assert reader.message_count == 3000
        assert reader.topics["/a"].msgcount == 1000
    assert found == in_order(MESSAGES)


def test_our_reader_gives_topics_by_time(path):
    file = McapFile(path)
    assert not file.broken
    found = [(m.channel.topic, m.log_time, m.data) for m in file.messages(["/a", "/b"])]
    assert found == in_order(MESSAGES)
    assert [m.data for m in file.messages(["/a"])] == [d for t, _, d in MESSAGES if t == "/a"]
    assert list(file.messages(["/c"])) == []


def test_chunks_that_overlap_are_merged_within_the_memory_allowed(tmp_path, monkeypatch):
    late = [("/a", 5000 - i, b"x") for i in range(100)]
    path = write(tmp_path / "a.mcap", late, every=10)
    assert [m.log_time for m in McapFile(path).messages(["/a"])] == sorted(t for _, t, _ in late)
    monkeypatch.setattr(mcap_reader, "MAX_OPEN_BYTES", 1)
    assert len(list(McapFile(path).messages(["/a"]))) == 100


def test_without_an_end_all_chunks_that_are_whole_are_read(tmp_path, caplog):
    path = write(tmp_path / "a.mcap", MESSAGES[:100], finish=False, every=10)
    file = McapFile(path)
    assert file.broken
    assert len(list(file.messages(["/a", "/b"]))) == 91
    assert "breaks off" in caplog.text
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert 80 <= len(list(McapFile(path).messages(["/a", "/b"]))) <= 91


def test_a_damaged_chunk_is_left_out_and_counted(path, caplog):
    data = bytearray(path.read_bytes())
    place = data.index(b"\x28\xb5\x2f\xfd")
    data[place + 100] ^= 255
    path.write_bytes(data)
    file = McapFile(path)
    found = list(file.messages(["/a", "/b"]))
    assert file.damaged == 1
    assert 0 < len(found) < 3000
    assert "left out" in caplog.text


def test_lengths_that_lie_are_not_believed(path, monkeypatch):
    monkeypatch.setattr(mcap_reader, "MAX_CHUNK_BYTES", 1000)
    file = McapFile(path)
    assert list(file.messages(["/a"])) == []
    assert file.damaged > 0


def test_what_is_no_mcap_is_refused(tmp_path):
    for content in (b"", b"\x89MCAP0\r\n", b"PNG" * 100):
        (tmp_path / "a.mcap").write_bytes(content)
        with pytest.raises(StreamError):
            McapFile(tmp_path / "a.mcap")


def test_a_message_larger_than_a_chunk_has_one_of_its_own(tmp_path):
    big = bytes(2 * CHUNK_BYTES)
    path = write(tmp_path / "a.mcap", [("/a", 1, b"s"), ("/b", 2, big), ("/a", 3, b"t")])
    assert [m.data for m in McapFile(path).messages(["/a", "/b"])] == [b"s", big, b"t"]


def test_nothing_written_is_still_a_file(tmp_path):
    path = write(tmp_path / "a.mcap", [])
    assert list(McapFile(path).messages(["/a"])) == []
    with path.open("rb") as file:
        assert make_reader(file).get_summary().statistics.message_count == 0


def test_a_flush_leaves_nothing_behind(tmp_path):
    file = (tmp_path / "a.mcap").open("wb")
    writer = McapWriter(file, "test")
    channel = writer.add_channel("/a", "std_msgs/msg/String", "string data\n", {})
    writer.write(channel, 1, 1, b"x" * 100)
    assert writer.pending_bytes == 131
    writer.flush()
    assert writer.pending_bytes == 0
    file.close()
