"""What a map may cost, and how a stream is mapped: every bound stands here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MapperSettings:
    """Options of a `Mapper`; what `max_` names is a bound of memory that always holds.

    `window` views go through the network together: the new frames and past keyframes. A frame
    becomes a keyframe when less than `overlap` of what it shows is known. A submap holds
    `keyframes_a_submap`: one, as what is in one submap never moves beside the rest of it (with two,
    neighbouring frames of a walk are off by 2.2 degrees instead of 1.8). `cell` is the side of the
    cells that are fused, in the unit of the map; None takes the size of a pixel at the median depth
    of the first window, times `coarse`. Pixels less sure than `min_confidence` become no Gaussians
    (see `merge.to_scene`). `believe` says that all frames show one place: none is left out as lost
    or moving.
    """

    window: int = 4
    overlap: float = 0.9
    keyframes_a_submap: int = 1
    cell: float | None = None
    coarse: float = 1.0
    min_confidence: float = 0.05
    loops: bool = True
    believe: bool = False
    max_splats: int = 500_000
    max_keyframes: int = 256
    max_submaps: int = 256
    max_rows: int = 1024
    max_frames: int = 100_000
