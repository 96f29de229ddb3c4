"""A clip: a few overlapping views of one scene and what is known about them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float16, Float32, Int16, UInt8

UNKNOWN = -1
"""Label of a pixel that nobody labelled."""
KEY = re.compile(r"[A-Za-z0-9_-]{1,79}")
"""What a clip may be called: WebDataset ends a key at its first dot and folders at a slash, and
ustar names have 100 bytes with the part (`.teachers.safetensors`)."""


@dataclass(frozen=True, eq=False)
class Clip:
    """v views of one size. Every source is read into clips, and a shard holds nothing else.

    `intrinsics` is in pixels with pixel centres at half-integers; `world_from_camera` has OpenCV
    axes and any rigid world, in metres if `metric`, else in an unknown unit. `depth` is z-depth in
    the same unit, 0 where it is unknown. `whole` and `part` are rows of the lexicon's levels,
    `instance` is 0 for structure and else one number an object, the same in all views; UNKNOWN
    marks pixels without a label, None a clip without any. `teachers` holds dense features of other
    networks by name, at any stride. `photos` may hold the source's own JPEG, PNG or WebP file of
    each image, if that decodes to exactly these pixels: a shard then keeps it as it is.
    """

    key: str
    source: str
    metric: bool
    images: UInt8[np.ndarray, "v h w 3"]
    intrinsics: Float32[np.ndarray, "v 3 3"]
    world_from_camera: Float32[np.ndarray, "v 4 4"]
    depth: Float32[np.ndarray, "v h w"] | None = None
    whole: Int16[np.ndarray, "v h w"] | None = None
    part: Int16[np.ndarray, "v h w"] | None = None
    instance: Int16[np.ndarray, "v h w"] | None = None
    teachers: Mapping[str, Float16[np.ndarray, "v _ _ _"]] = field(default_factory=dict)
    photos: tuple[bytes, ...] = ()

    def __post_init__(self):
        if not KEY.fullmatch(self.key):
            raise ValueError(f"not a key for a clip: {self.key!r:.80}")
