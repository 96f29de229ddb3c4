"""Recordings: what a stream saw and made, as one MCAP file that ROS tools open and we play again.

It holds pictures as they came, intrinsics, tf, path, points and hits for other tools, and the
deltas of the map, as the wire protocol has them, so that the map itself can be had again.

A process that is killed leaves all but the last second: MCAP is read chunk by chunk, by `BagSource`
and by the readers of the `mcap` packages; `ros2 bag` and `rosbags` want a file with an end, which
`mcap recover` writes.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ffsplat import __version__
from ffsplat.errors import OutputError, StreamError, system_hint
from ffsplat.io.atomic import check_output
from ffsplat.stream.delta import MapDelta
from ffsplat.stream.protocol.blocks import Deltas
from ffsplat.stream.protocol.errors import ProtocolError
from ffsplat.stream.protocol.header import MAX_PAYLOAD, Kind, unpack
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.ros.bags import open_bag
from ffsplat.stream.ros.mcap_writer import McapWriter
from ffsplat.stream.ros.output import DELTAS, MapMessages, Output, Topic
from ffsplat.stream.ros.sink import Sink
from ffsplat.stream.ros.store import definition, ros2_types, to_cdr

_LATCHED = """- history: 1
  depth: 1
  reliability: 1
  durability: 1
  deadline:
    sec: 9223372036
    nsec: 854775807
  lifespan:
    sec: 9223372036
    nsec: 854775807
  liveliness: 1
  liveliness_lease_duration:
    sec: 9223372036
    nsec: 854775807
  avoid_ros_namespace_conventions: false"""
"""Keep last 1, reliable, transient local, as rosbag2 writes it: so is a latched topic played."""


class Recorder(Sink):
    """Writes an MCAP file while a stream runs; see `Sink` for what it takes.

    The file grows in place, not under another name: a recording must be there when the process is
    not. Raises UsageError without rosbags, OutputError if the file cannot be made. A disk that is
    full later ends the recording, not the stream.
    """

    def __init__(
        self, path: str | Path, overwrite: bool = False, messages: MapMessages | None = None
    ) -> None:
        ros2_types()
        check_output(path, overwrite)
        self.path = Path(path)
        try:
            mode = "wb" if overwrite else "xb"
            self._file: BinaryIO = Path(path).open(mode)  # noqa: SIM115 - `close` closes it
        except OSError as error:
            raise _refused(self.path, error) from error
        self._writer = McapWriter(self._file, f"ffsplat {__version__}")
        self._channels: dict[Topic, int] = {}
        self._began = time.time_ns(), time.monotonic_ns()
        super().__init__(self._write, f"recording {path}", messages, self._writer.flush)

    def close(self) -> None:
        """Write what waits and the index. Raises OutputError if the recording is not complete."""
        if self._file.closed:
            return
        if not self._finish():  # the thread still writes: the file is left to it, without an end
            why = f"{self.path} is too slow: the recording lacks its end"
            raise OutputError(why, "record to a faster disk")
        try:
            if self.failure is None:
                self._writer.close()
                os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _refused(self.path, error) from error
        if self.failure is not None:
            why = f"the recording {self.path} broke off: {self.failure}"
            raise OutputError(why, "what it holds so far can be played")

    def _add(self, topic: Topic) -> int:
        quality = {"offered_qos_profiles": _LATCHED if topic.latched else ""}
        return self._writer.add_channel(
            topic.name, topic.type_name, definition(topic.type_name), quality
        )

    def _write(self, output: Output) -> None:
        """Put a message in the file, at the time of now, which never goes back."""
        if self._writer.full:
            raise OutputError(f"{self.path} has as many chunks as it may")
        wall, steady = self._began
        now = wall + time.monotonic_ns() - steady
        if output.topic not in self._channels:
            self._channels[output.topic] = self._add(output.topic)
        channel = self._channels[output.topic]
        self._writer.write(channel, now, max(output.time_ns, 0), to_cdr(output.message))


def _refused(path: Path, error: OSError) -> OutputError:
    """What to say of a file that cannot be written."""
    return OutputError(f"cannot write {path}: {error.strerror}", system_hint(error))


def recorded_deltas(path: str | Path) -> Iterator[tuple[Kind, MapDelta]]:
    """The deltas and snapshots in a recording, in order. Raises StreamError for damaged ones."""
    bag = open_bag(Path(path))
    deltas = Deltas()
    try:
        for message in bag.messages([DELTAS.name]):
            data = message.read().data.tobytes()
            found = deltas.add(unpack(data, MAX_PAYLOAD))
            if found is not None:
                yield found
    except ProtocolError as error:
        raise StreamError(f"{path} holds a damaged delta: {error}") from error
    finally:
        bag.close()


def recorded_map(path: str | Path) -> Replica:
    """The map at the end of a recording. Raises StreamError if it holds none, or a damaged one."""
    replica = Replica()
    try:
        for kind, delta in recorded_deltas(path):
            if kind == Kind.SNAPSHOT:
                replica.restore(delta)
            else:
                replica.apply(delta)
    except ProtocolError as error:
        raise StreamError(f"{path} holds a damaged delta: {error}") from error
    if replica.number == 0:
        raise StreamError(f"{path} holds no map")
    return replica
