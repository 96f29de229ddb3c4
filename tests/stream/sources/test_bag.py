import logging
import random
from io import BytesIO

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer
from PIL import Image
from ros_messages import camera_info, compressed, image, tf, transform
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from ffsplat.errors import FFSplatError, StreamError
from ffsplat.stream.ros.store import definition, ros2_types, to_cdr
from ffsplat.stream.sources import open_source
from ffsplat.stream.sources.bag import BagSource

S = 10**9
K = [[50, 0, 2.5], [0, 50, 1.5], [0, 0, 1]]
SIZE = (6, 4)
PIXELS = [np.random.default_rng(i).integers(0, 256, (4, 6, 3), dtype=np.uint8) for i in range(5)]


def jpeg(i):
    file = BytesIO()
    Image.fromarray(PIXELS[i]).save(file, "PNG")
    return file.getvalue()


def robot(packed=False):
    """(topic, time, message) of a robot that drives one metre a second and looks ahead."""
    mount = transform("base_link", "camera", 0, (0, 0, 1), (0.5, -0.5, 0.5, -0.5))
    yield "/tf_static", 0, tf(mount)
    for i in range(5):
        t = (i + 1) * S
        yield "/tf", t, tf(transform("odom", "base_link", t, (i, 0, 0)))
        yield "/cam/camera_info", t, camera_info(K, 6, 4, time_ns=t)
        if packed:
            yield "/cam/image_raw/compressed", t, compressed(jpeg(i), "png", t + S // 2)
        else:
            yield "/cam/image_raw", t, image(PIXELS[i], 4, 6, time_ns=t + S // 2)


def write_ros2(path, messages, plugin=StoragePlugin.MCAP, mode=CompressionMode.NONE):
    writer = Writer2(path, version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        known = {}
        for topic, time, message in messages:
            if topic not in known:
                kind = message.__msgtype__
                known[topic] = writer.add_connection(topic, kind, typestore=ros2_types())
            writer.write(known[topic], time, to_cdr(message))
    return path


def write_ros1(path, messages, compression=None):
    store = get_typestore(Stores.ROS1_NOETIC)
    vectors = "geometry_msgs/TransformStamped[] transforms"
    store.register(get_types_from_msg(vectors, "tf2_msgs/msg/TFMessage"))
    writer = Writer1(path)
    if compression:
        writer.set_compression(compression)
    with writer:
        known = {}
        for topic, time, message in messages:
            message = old_message(message, store)
            kind = message.__msgtype__
            if topic not in known:
                known[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(known[topic], time, bytes(store.serialize_ros1(message, kind)))
    return path


def old_message(message, store):
    """A ROS 2 message as one of ROS 1: headers count, and cameras have capital letters."""
    if isinstance(message, list):
        return [old_message(item, store) for item in message]
    if not hasattr(message, "__msgtype__"):
        return message
    kind = store.types[message.__msgtype__]
    values = {}
    for name in kind.__dataclass_fields__:
        if name == "__msgtype__":
            continue
        value = 0 if name == "seq" else getattr(message, name.lower() if len(name) == 1 else name)
        values[name] = old_message(value, store)
    return kind(**values)


def write_mcap(path, messages, profile="ros2", finish=True, **options):
    """By the reference package, another writer than ours and than that of rosbags."""
    with path.open("wb") as file:
        writer = Writer(file, **options)
        writer.start(profile)
        known = {}
        for topic, time, message in messages:
            if topic not in known:
                kind = message.__msgtype__
                schema = writer.register_schema(kind, "ros2msg", definition(kind).encode())
                known[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(known[topic], time, to_cdr(message), time)
        if finish:
            writer.finish()
    return path


WRITERS = {
    "ros1": lambda p, m: write_ros1(p / "a.bag", m),
    "ros1 bz2": lambda p, m: write_ros1(p / "a.bag", m, Writer1.CompressionFormat.BZ2),
    "ros1 lz4": lambda p, m: write_ros1(p / "a.bag", m, Writer1.CompressionFormat.LZ4),
    "sqlite3": lambda p, m: write_ros2(p / "a", m, StoragePlugin.SQLITE3),
    "mcap": lambda p, m: write_ros2(p / "a", m),
    "mcap zstd": lambda p, m: write_ros2(p / "a", m, mode=CompressionMode.STORAGE),
    "files": lambda p, m: write_ros2(p / "a", m, StoragePlugin.SQLITE3, CompressionMode.FILE),
    "mcap files": lambda p, m: write_ros2(p / "a", m, mode=CompressionMode.FILE),
    "each": lambda p, m: write_ros2(p / "a", m, StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    "mcap each": lambda p, m: write_ros2(p / "a", m, mode=CompressionMode.MESSAGE),
    "bare": lambda p, m: write_mcap(p / "a.mcap", m),
    "bare lz4": lambda p, m: write_mcap(p / "a.mcap", m, compression=CompressionType.LZ4),
    "bare small": lambda p, m: write_mcap(p / "a.mcap", m, chunk_size=300),
    "no profile": lambda p, m: write_mcap(p / "a.mcap", m, "", compression=CompressionType.NONE),
    "no chunks": lambda p, m: write_mcap(p / "a.mcap", m, use_chunking=False),
    "no summary": lambda p, m: write_mcap(p / "a.mcap", m, repeat_channels=False),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_container_gives_the_same_frames(writer, tmp_path):
    with BagSource(WRITERS[writer](tmp_path, robot())) as source:
        frames = list(source)
    assert source.topic == "/cam/image_raw"
    assert [f.number for f in frames] == [0, 1, 2, 3, 4]
    assert [f.time_ns for f in frames] == [(i + 1) * S + S // 2 for i in range(5)]
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, PIXELS[i])
        assert frame.intrinsics[0].tolist() == [50, 0, 3]
        if i < 4:  # nothing is known after the last transform
            np.testing.assert_allclose(frame.pose[:3, 3], [i + 0.5, 0, 1], atol=1e-12)
            np.testing.assert_allclose(frame.pose[:3, 2], [1, 0, 0], atol=1e-12)
    assert frames[4].pose is None
    assert not source.skipped


def test_compressed_pictures_come_as_they_are(tmp_path):
    with BagSource(write_ros2(tmp_path / "bag", robot(packed=True))) as source:
        frames = list(source)
    assert [f.image for f in frames] == [jpeg(i) for i in range(5)]
    assert frames[0].intrinsics[0].tolist() == [50, 0, 3]


def test_poses_may_be_left_out_or_asked_for_in_another_frame(tmp_path):
    path = write_ros2(tmp_path / "bag", robot())
    assert all(frame.pose is None for frame in BagSource(path, poses=False))
    frames = list(BagSource(path, fixed_frame="base_link"))
    np.testing.assert_allclose(frames[0].pose[:3, 3], [0, 0, 1])
    assert all(frame.pose is None for frame in BagSource(path, fixed_frame="nowhere"))


def test_of_several_cameras_one_must_be_chosen(tmp_path):
    messages = [
        ("/b", 1, image(PIXELS[0], 4, 6)),
        ("/a", 1, image(PIXELS[1], 4, 6)),
        ("/other/camera_info", 0, camera_info(K, 6, 4)),
    ]
    path = write_ros2(tmp_path / "bag", messages)
    with pytest.raises(StreamError, match="several cameras: /a, /b"):
        BagSource(path)
    with pytest.raises(StreamError, match="no pictures on /c"):
        BagSource(path, "/c")
    (frame,) = BagSource(path, "/b")
    np.testing.assert_array_equal(frame.image, PIXELS[0])
    assert frame.intrinsics is None
    (frame,) = BagSource(path, "/b", camera_info_topic="/other/camera_info")
    assert frame.intrinsics is not None
    with pytest.raises(StreamError, match="no CameraInfo on /nope"):
        BagSource(path, "/b", camera_info_topic="/nope")


def test_depth_beside_a_camera_is_no_second_camera(tmp_path):
    messages = [
        ("/color", 1, image(PIXELS[0], 4, 6)),
        ("/Depth/image", 1, image(PIXELS[1], 4, 6)),
    ]
    source = BagSource(write_ros2(tmp_path / "bag", messages))
    assert source.topic == "/color"
    assert len(list(source)) == 1


def test_a_recording_without_pictures_says_what_it_has(tmp_path):
    path = write_ros2(tmp_path / "bag", [("/tf", 0, tf())])
    with pytest.raises(StreamError, match="no pictures") as error:
        BagSource(path)
    assert error.value.hint == "its types are tf2_msgs/msg/TFMessage"


def test_pictures_that_are_not_read_are_refused_by_name(tmp_path):
    depth = image(np.zeros((4, 6), np.float32), 4, 6, "32FC1")
    path = write_ros2(tmp_path / "bag", [("/depth", 0, depth)])
    with pytest.raises(StreamError, match="/depth: pictures of encoding '32FC1'"):
        list(BagSource(path))


def test_a_static_transform_holds_whenever_it_was_recorded(tmp_path):
    first, *rest = robot()
    late = [*rest[:6], (first[0], 3 * S, first[2]), *rest[6:]]
    path = write_ros2(tmp_path / "bag", late)
    poses = [frame.pose for frame in BagSource(path)]
    known = [frame.pose for frame in BagSource(write_ros2(tmp_path / "first", robot()))]
    assert [pose is None for pose in poses] == [pose is None for pose in known]
    np.testing.assert_allclose(poses[0], known[0])


def test_the_first_intrinsics_hold_for_a_picture_that_was_recorded_before_them(tmp_path):
    wide = [[30, 0, 2.5], [0, 30, 1.5], [0, 0, 1]]
    messages = []
    for i, matrix in enumerate([K, wide]):
        messages.append(("/cam/image_raw", i * S, image(PIXELS[i], 4, 6, time_ns=i * S + 1)))
        info = camera_info(matrix, 6, 4, time_ns=i * S + 1)
        messages.append(("/cam/camera_info", i * S + 5, info))
    messages.append(("/cam/image_raw", 3 * S, image(PIXELS[2], 4, 6, time_ns=3 * S)))
    for path in (write_ros2(tmp_path / "two", messages), write_ros1(tmp_path / "a.bag", messages)):
        assert [f.intrinsics[0, 0] for f in BagSource(path)] == [50, 50, 30]


def test_a_recording_that_breaks_off_before_anything_is_refused(tmp_path):
    path = write_mcap(tmp_path / "a.mcap", robot(), chunk_size=1 << 20)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(StreamError, match="breaks off before the first topic"):
        BagSource(path)


def test_a_ros_1_bag_whose_recorder_was_killed_says_how_to_repair_it(tmp_path):
    whole = write_ros1(tmp_path / "a.bag", robot()).read_bytes()
    path = tmp_path / "b.bag.active"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StreamError, match="cannot read") as error:
        open_source(str(path))
    assert error.value.hint == "rosbag reindex FILE repairs it"


def test_times_are_stamps_or_else_of_the_recording_and_are_not_put_in_order(tmp_path):
    stamps = [3 * S, 0, S, 3 * S]
    messages = [("/a", 7 + i, image(PIXELS[0], 4, 6, time_ns=t)) for i, t in enumerate(stamps)]
    frames = BagSource(write_ros2(tmp_path / "bag", messages))
    assert [f.time_ns for f in frames] == [3 * S, 8, S, 3 * S]


def test_damaged_messages_are_skipped_and_counted(tmp_path, caplog):
    good = image(PIXELS[0], 4, 6)
    kind = good.__msgtype__
    writer = Writer2(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    data = bytearray(to_cdr(good))
    lying = bytes(data[:-76]) + (2**32 - 1).to_bytes(4, "little") + bytes(data[-72:])
    empty = to_cdr(image(np.zeros(0, np.uint8), 0, 0, step=0))
    with writer, caplog.at_level(logging.WARNING):
        connection = writer.add_connection("/a", kind, typestore=ros2_types())
        for i, raw in enumerate([b"", b"\0", bytes(data[:50]), lying, empty, bytes(data)]):
            writer.write(connection, i, raw)
    with BagSource(tmp_path / "bag") as source:
        assert len(list(source)) == 1
    assert source.skipped == {"damaged message": 4, "damaged picture": 1}
    assert len(caplog.records) == 2


def test_a_file_that_breaks_off_is_read_up_to_there(tmp_path, caplog):
    path = write_mcap(tmp_path / "a.mcap", robot(), chunk_size=300)
    whole = path.read_bytes()
    counts = []
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        counts.append(len(list(BagSource(path))))
    assert 0 < counts[0] < counts[1] <= counts[2] <= 5
    assert "breaks off" in caplog.text


def test_a_folder_whose_writer_died_has_no_metadata_and_is_read(tmp_path):
    path = write_ros2(tmp_path / "bag", robot())
    (path / "metadata.yaml").unlink()
    assert len(list(BagSource(path))) == 5


def test_files_of_one_recording_follow_each_other_by_number(tmp_path):
    for i, number in enumerate([2, 10]):
        stamped = image(PIXELS[i], 4, 6, time_ns=i + 1)
        write_mcap(tmp_path / f"bag_{number}.mcap", [("/a", i + 1, stamped)])
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: {}\n")
    assert [f.time_ns for f in BagSource(tmp_path)] == [1, 2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.bag", b"#ROSBAG V2.0\n" + b"\xff" * 200),
        ("a.bag", b""),
        ("a.mcap", b"\x89MCAP0\r\n" + b"\x06" + b"\xff" * 200),
        ("a.mcap", b"not one"),
        ("a.mcap", b""),
        ("a.db3", b"SQLite format 3\0" + b"\0" * 200),
        ("a.txt", b"hello"),
    ],
)
def test_files_that_are_no_recordings_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StreamError):
        BagSource(tmp_path / name)


def test_what_does_not_exist_or_is_empty_is_refused(tmp_path):
    with pytest.raises(StreamError, match="does not exist"):
        BagSource(tmp_path / "nothing.bag")
    with pytest.raises(StreamError, match="holds no recording"):
        BagSource(tmp_path)


def test_blocks_that_unpack_to_gigabytes_are_not_unpacked(tmp_path, monkeypatch):
    from ffsplat.stream.ros import bags, mcap_reader

    monkeypatch.setattr(mcap_reader, "MAX_CHUNK_BYTES", 500)
    monkeypatch.setattr(bags, "MAX_CHUNK_BYTES", 500)
    big = [("/a", i, image(np.zeros((40, 40, 3)), 40, 40)) for i in range(3)]
    assert list(BagSource(write_mcap(tmp_path / "a.mcap", big, repeat_channels=True))) == []
    old = write_ros1(tmp_path / "a.bag", big, Writer1.CompressionFormat.BZ2)
    with pytest.raises(StreamError, match="more than the 500 bytes"):
        list(BagSource(old))


def test_files_that_unpack_to_gigabytes_are_not_unpacked_and_leave_nothing(tmp_path, monkeypatch):
    from ffsplat.stream.ros import bags

    path = WRITERS["files"](tmp_path, robot())
    monkeypatch.setattr(bags, "MAX_GROWTH", 1)
    monkeypatch.setattr(bags, "FREE_BYTES", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StreamError, match=r"a.db3.zstd holds more than"):
        BagSource(path)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "writer", ["ros1", "ros1 lz4", "sqlite3", "mcap", "bare", "no chunks", "files"]
)
def test_no_damage_raises_anything_but_stream_errors(writer, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    path = WRITERS[writer](tmp_path, robot())
    file = max(path.iterdir(), key=lambda f: f.stat().st_size) if path.is_dir() else path
    whole = file.read_bytes()
    rng = random.Random(0)
    outcomes = set()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3, 20])):
            place = rng.randrange(len(data))
            data[place : place + rng.choice([1, 4, 8])] = rng.choice([b"\xff" * 8, b"\0", b"\x7f"])
        file.write_bytes(data[: rng.randrange(1, len(data))] if rng.random() < 0.2 else data)
        try:
            outcomes.add(len(list(BagSource(path, "/cam/image_raw"))))
        except FFSplatError:
            outcomes.add("refused")
    assert outcomes & {4, 5, "refused"}


def test_closing_ends_the_iteration(tmp_path):
    source = BagSource(write_ros2(tmp_path / "bag", robot(packed=True)))
    found = []
    for frame in source:
        found.append(frame)
        source.close()
    assert 1 <= len(found) < 5
    source.close()
