"""Frames as an animation: WebP and GIF through Pillow, MP4 through PyAV."""

import importlib.util
from collections.abc import Iterable
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

ANIMATIONS = {".webp": "WEBP", ".gif": "GIF", ".mp4": "MP4"}
"""Known endings of files."""

FRAMES_A_SECOND = 20


def has_mp4() -> bool:
    """Whether PyAV is there, which writes MP4."""
    return importlib.util.find_spec("av") is not None


def write_animation(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]], file: BinaryIO | BytesIO, ending: str
) -> None:
    """Write all frames, at least one, as an endless animation of a kind in ANIMATIONS.

    Frames are taken one by one, so they need not all fit in memory. MP4 repeats an odd last row or
    column, for its colour format needs even sides.
    """
    if ending == ".mp4":
        _write_mp4(frames, file)
        return
    images = map(Image.fromarray, frames)
    pace = {"duration": 1000 // FRAMES_A_SECOND, "loop": 0}
    next(images).save(file, ANIMATIONS[ending], save_all=True, append_images=images, **pace)


def _write_mp4(frames: Iterable[UInt8[np.ndarray, "h w 3"]], file: Any) -> None:
    import av  # pyright: ignore[reportMissingImports] - the extra `video`

    with av.open(file, "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=FRAMES_A_SECOND)
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            odd = [(0, side % 2) for side in pixels.shape[:2]]
            even = np.pad(pixels, [*odd, (0, 0)], mode="edge")
            if number == 0:
                stream.height, stream.width = even.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())
