"""What a stream may cost in waiting, and how long it has patience."""

from dataclasses import dataclass
from pathlib import Path

from ffsplat.errors import UsageError
from ffsplat.stream.decoding import MAX_BYTES, MAX_MEGAPIXELS
from ffsplat.stream.engine.waiting import POLICIES, DropPolicy


@dataclass(frozen=True)
class EngineSettings:
    """Options of an `Engine`; times are in seconds.

    At most `queue` frames wait; `drop` says which goes when there are more. Under "block" a source
    waits up to `block_s` for room. A frame in work for `hang_s` is dropped ("timeout"); if the
    network has not come back after `stuck_s`, the engine counts as dead and wants a restart.
    For `degraded_s` after a failure it says that it is degraded. Changes of the map go out at most
    every `publish_s`. `checkpoint` is a folder for the state, saved after every `checkpoint_every`
    keyframes. Pictures of more than `max_bytes` (encoded) or `max_megapixels` are refused.

    Raises UsageError for values that cannot be.
    """

    queue: int = 4
    drop: DropPolicy = "latest"
    block_s: int | float = 60.0
    hang_s: int | float = 5.0
    stuck_s: int | float = 60.0
    degraded_s: int | float = 10.0
    publish_s: int | float = 0.1
    checkpoint: Path | None = None
    checkpoint_every: int = 20
    max_bytes: int = MAX_BYTES
    max_megapixels: int | float = MAX_MEGAPIXELS

    def __post_init__(self) -> None:
        if self.drop not in POLICIES:
            raise UsageError(f"drop policy {self.drop}", f"one of {', '.join(POLICIES)}")
        for name in ("queue", "checkpoint_every", "max_bytes", "max_megapixels", "hang_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}, must be more than 0")
        for name in ("block_s", "degraded_s", "publish_s"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} is {getattr(self, name)}, must not be less than 0")
        if not self.stuck_s >= self.hang_s:
            raise UsageError(f"stuck_s ({self.stuck_s}) is less than hang_s ({self.hang_s})")
