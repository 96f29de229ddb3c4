"""Text messages: JSON objects whose `type` says what they are, as dataclasses.

What a client sends is read strictly: a server refuses all that it does not know. What a server
sends is read so that fields and types of later servers are passed over.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import UInt32

from ffsplat.stream.protocol.fields import EXACT, MAX_JSON, Fields, read_object
from ffsplat.stream.protocol.runs import decode_gids, decode_runs

Role = Literal["camera", "viewer"]
"""Who sends frames and asks, and who only looks and asks."""

Drop = Literal["latest", "keyframe", "block"]
"""Which frames are left out when they come faster than they are used."""

Want = Literal["delta", "pose", "ack", "health"]
"""What a server may send without being asked."""

MAX_TOKEN = 512
MAX_TEXT = 256
MAX_NAME = 128
MAX_HITS = 100
MAX_ACKS = 256
MAX_GIDS = 24576
"""Characters of the gids of all hits of a message together."""

Vector = tuple[float, float, float]
Matrix = tuple[float, ...]
"""16 numbers: the rows of a rigid 4x4 matrix, one after the other."""


@dataclass(frozen=True)
class Resume:
    """What a client has: all of the map of this name up to the delta of this number."""

    map: str
    number: int


@dataclass(frozen=True)
class Hello:
    """The first message of a client; `drop` None leaves the choice to the server."""

    token: str = ""
    role: Role = "camera"
    drop: Drop | None = None
    want: tuple[Want, ...] = get_args(Want)
    resume_from: Resume | None = None


@dataclass(frozen=True)
class Query:
    """A question; it is answered by `Hits`, or an `Error`, of the same `id`."""

    id: int
    text: str
    max_hits: int = 20
    threshold: float | None = None


@dataclass(frozen=True)
class Flush:
    """Asks for `Flushed` once all frames sent so far have had their effect on the map."""

    id: int


@dataclass(frozen=True)
class Bye:
    """The last message of a client; the server closes with 1000."""


@dataclass(frozen=True)
class Limits:
    """What a server takes: larger frames are refused, more frames a second or queued are dropped.

    A connection without a message for `idle_seconds` is closed with 4408.
    """

    max_frame_bytes: int
    max_pixels: int
    max_fps: float
    max_queue: int
    idle_seconds: float


@dataclass(frozen=True)
class Welcome:
    """The answer to `Hello`: the map and its last number.

    `resumed` says that the deltas go on after the one that the client has; else a snapshot comes
    first, unless the map is empty.
    """

    session: str
    map: str
    number: int
    resumed: bool
    limits: Limits


@dataclass(frozen=True)
class FrameAck:
    """What became of a frame: `reason` is a word of `Used` or `Dropped`, or a later one.

    `milliseconds` is the wall time of each stage that it went through.
    """

    seq: int
    used: bool
    reason: str
    milliseconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ack:
    """What became of frames of this client, at most MAX_ACKS of them."""

    frames: tuple[FrameAck, ...]


@dataclass(frozen=True)
class Pose:
    """Where the camera was: `pose` is world_from_camera in the world of the map at `epoch`."""

    seq: int
    time_ns: int
    epoch: int
    pose: Matrix


@dataclass(frozen=True)
class FoundHit:
    """One match of a query; see `ffsplat.hits.Hit`. Lengths are in units of the map's world.

    `gids` says which Gaussians it is of, as `runs` has it; None where that would be too long.
    """

    name: str
    instance: int
    score: float
    count: int
    center: Vector
    minimum: Vector
    maximum: Vector
    gids: str | None = None

    def places(self) -> UInt32[np.ndarray, " count"] | None:
        """The gids of its Gaussians, rising, in the map that was asked; None if they are unsaid."""
        return None if self.gids is None else decode_gids(self.gids, self.count)


@dataclass(frozen=True)
class Hits:
    """The matches of a query in the map as of delta `number`, best first."""

    id: int
    number: int
    hits: tuple[FoundHit, ...]


@dataclass(frozen=True)
class Flushed:
    """All frames sent before the `Flush` are in the map as of delta `number`, which was sent."""

    id: int
    number: int


@dataclass(frozen=True)
class Health:
    """Counters of the whole server: received = processed + dropped + queued, always.

    `milliseconds` is the median wall time of each stage, over all frames so far.
    """

    received: int
    processed: int
    dropped: Mapping[str, int]
    queued: int
    degraded: bool
    number: int
    epoch: int
    splats: int
    milliseconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Error:
    """Something was refused; with a `code` of a close frame, the connection is closed next.

    `id` is that of the query it answers, if it does.
    """

    code: int
    message: str
    hint: str = ""
    retryable: bool = False
    retry_after_ms: int | None = None
    id: int | None = None


ClientMessage = Hello | Query | Flush | Bye
ServerMessage = Welcome | Ack | Pose | Hits | Flushed | Health | Error


def parse_client(text: str | bytes) -> ClientMessage:
    """The message of a client; ProtocolError (4400, 4413) if it is not one to the letter."""
    kind, values = _typed(text)
    if kind not in _CLIENT:
        Fields({}, "message").refuse(kind, "is no type that a client sends")
    message = _CLIENT[kind](values)
    values.end()
    return message


def parse_server(text: str | bytes) -> ServerMessage | None:
    """The message of a server, None for a type that is not known; ProtocolError if it is broken."""
    kind, values = _typed(text)
    return _SERVER[kind](values) if kind in _SERVER else None


def dump(message: ClientMessage | ServerMessage) -> str:
    """The JSON of a message, without what is None.

    Raises ValueError for numbers that are not finite, ProtocolError (4400) for too long a text.
    """
    values = {"type": type(message).__name__.lower(), **_plain(message)}
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    if len(text) > MAX_JSON:
        Fields({}, values["type"]).refuse("type", f"makes a text of {len(text)} bytes")
    return text


def _typed(text: str | bytes) -> tuple[str, Fields]:
    values = read_object(text)
    kind = Fields(values, "message").text("type", MAX_NAME)
    del values["type"]
    return kind, Fields(values, kind[:40])


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = {one.name: getattr(value, one.name) for one in fields(value)}
        return {name: _plain(one) for name, one in named.items() if one is not None}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return dict(value) if isinstance(value, Mapping) else value


def _hello(values: Fields) -> Hello:
    resume = None
    if "resume_from" in values:
        had = Fields(values.object("resume_from"), "resume_from")
        resume = Resume(had.text("map", MAX_NAME), had.integer("number", 0, EXACT))
        had.end()
    return Hello(
        values.text("token", MAX_TOKEN, ""),
        values.choice("role", get_args(Role), "camera"),
        values.choice("drop", get_args(Drop)) if "drop" in values else None,
        values.choices("want", get_args(Want)),
        resume,
    )


def _query(values: Fields) -> Query:
    return Query(
        values.integer("id", 0, EXACT),
        values.text("text", MAX_TEXT),
        values.integer("max_hits", 1, MAX_HITS, 20),
        values.number("threshold") if "threshold" in values else None,
    )


def _welcome(values: Fields) -> Welcome:
    limits = Fields(values.object("limits"), "limits")
    return Welcome(
        values.text("session", MAX_NAME),
        values.text("map", MAX_NAME),
        values.integer("number", 0, EXACT),
        values.truth("resumed"),
        Limits(
            limits.integer("max_frame_bytes", 1, EXACT),
            limits.integer("max_pixels", 1, EXACT),
            limits.positive("max_fps"),
            limits.integer("max_queue", 1, EXACT),
            limits.positive("idle_seconds"),
        ),
    )


def _ack(values: Fields) -> Ack:
    return Ack(tuple(map(_frame_ack, values.objects("frames", MAX_ACKS))))


def _frame_ack(found: Mapping[str, Any]) -> FrameAck:
    values = Fields(found, "frames")
    return FrameAck(
        values.integer("seq", 0, EXACT),
        values.truth("used"),
        values.text("reason", MAX_NAME),
        _milliseconds(values),
    )


def _milliseconds(values: Fields) -> dict[str, float]:
    """Times by stage; none where they are missing."""
    stages = values.object("milliseconds") if "milliseconds" in values else {}
    times = Fields(stages, "milliseconds")
    return {stage: times.number(stage) for stage in stages}


def _pose(values: Fields) -> Pose:
    return Pose(
        values.integer("seq", 0, EXACT),
        values.integer("time_ns", -(2**63), 2**63 - 1),
        values.integer("epoch", 0, EXACT),
        values.numbers("pose", 16),
    )


def _hits(values: Fields) -> Hits:
    found = tuple(map(_found_hit, values.objects("hits", MAX_HITS)))
    return Hits(values.integer("id", 0, EXACT), values.integer("number", 0, EXACT), found)


def _found_hit(found: Mapping[str, Any]) -> FoundHit:
    values = Fields(found, "hits")
    hit = FoundHit(
        values.text("name", MAX_TEXT),
        values.integer("instance", -1, 2**31 - 1),
        values.number("score"),
        values.integer("count", 0, EXACT),
        *(_vector(values, name) for name in ("center", "minimum", "maximum")),
        gids=values.text("gids", MAX_GIDS) if "gids" in values else None,
    )
    if hit.gids is not None:
        decode_runs(hit.gids, hit.count)  # refuses what they cannot be
    return hit


def _vector(values: Fields, name: str) -> Vector:
    x, y, z = values.numbers(name, 3)
    return x, y, z


def _health(values: Fields) -> Health:
    reasons = values.object("dropped")
    dropped = Fields(reasons, "dropped")
    counts = {name: values.integer(name, 0, EXACT) for name in _COUNTS}
    return Health(
        dropped={reason: dropped.integer(reason, 0, EXACT) for reason in reasons},
        degraded=values.truth("degraded"),
        milliseconds=_milliseconds(values),
        **counts,
    )


def _error(values: Fields) -> Error:
    return Error(
        values.integer("code", 1000, 4999),
        values.text("message", MAX_JSON),
        values.text("hint", MAX_JSON, ""),
        values.truth("retryable", False),
        values.integer("retry_after_ms", 0, EXACT) if "retry_after_ms" in values else None,
        values.integer("id", 0, EXACT) if "id" in values else None,
    )


_COUNTS = ("received", "processed", "queued", "number", "epoch", "splats")

_CLIENT: Mapping[str, Callable[[Fields], ClientMessage]] = {
    "hello": _hello,
    "query": _query,
    "flush": lambda values: Flush(values.integer("id", 0, EXACT)),
    "bye": lambda values: Bye(),
}

_SERVER: Mapping[str, Callable[[Fields], ServerMessage]] = {
    "welcome": _welcome,
    "ack": _ack,
    "pose": _pose,
    "hits": _hits,
    "flushed": lambda values: Flushed(
        values.integer("id", 0, EXACT), values.integer("number", 0, EXACT)
    ),
    "health": _health,
    "error": _error,
}
