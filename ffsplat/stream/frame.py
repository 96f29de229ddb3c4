"""One picture of a camera on its way through a stream, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, UInt8

Used = Literal["keyframe", "tracked"]
"""A frame that was used: it brought Gaussians, or only its camera was found."""

Dropped = Literal[
    "undecodable",  # no JPEG, PNG or WebP, or damaged
    "too_large",  # more bytes or pixels than the limits allow
    "invalid",  # a pose or intrinsics that cannot be
    "late",  # older than a frame that was taken before it
    "repeated",  # the picture of the frame before, or the number and stamp of an earlier one
    "queue_full",  # the drop policy chose others
    "covered",  # dark, bright or plain all over: something is before the lens
    "blurred",  # much less sharp than the frames before
    "moving",  # most of what it shows has moved
    "lost",  # it does not fit what is known of the place
    "not_finite",  # the network said NaN or infinity
    "model_error",  # the network raised an error
    "timeout",  # the network took longer than allowed
    "shutdown",  # the stream ended first
]
"""Why a frame was left out."""

USED = get_args(Used)
DROPPED = get_args(Dropped)


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture as it comes from a source.

    `image` is an encoded JPEG, PNG or WebP, or sRGB pixels. `time_ns` is when it was taken by the
    sender's clock, nanoseconds since 1970 (or since the start of a file that knows no date).
    `number` rises from frame to frame. `pose` is world_from_camera in the sender's world, in
    metres, `intrinsics` is in pixels of the picture as it came; None where nobody knows.
    """

    image: bytes | UInt8[np.ndarray, "h w 3"]
    time_ns: int
    number: int
    pose: Float64[np.ndarray, "4 4"] | None = None
    intrinsics: Float64[np.ndarray, "3 3"] | None = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of a frame.

    `pose` is world_from_camera in the map's world when it was placed. `seconds` is the wall time of
    each stage it went through: decode, queue, network, place, fuse; the last only once it is over.
    """

    number: int
    reason: Used | Dropped
    pose: Float64[np.ndarray, "4 4"] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        """Whether the frame was used at all."""
        return self.reason in USED
