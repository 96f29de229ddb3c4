"""Images and animations as files: PNG, JPEG, WebP and GIF through Pillow, MP4 through PyAV."""

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ffsplat.errors import UsageError
from ffsplat.io import atomic_output

STILLS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
ANIMATIONS = {".webp": "WEBP", ".gif": "GIF", ".mp4": "MP4"}
FRAMES_A_SECOND = 20


def is_animation(path: Path) -> bool:
    """Whether a file's ending stands for an animation; UsageError for one that is not known."""
    ending = path.suffix.lower()
    if ending not in STILLS | ANIMATIONS:
        known = ", ".join([*STILLS, *ANIMATIONS])
        raise UsageError(f"cannot tell from {path.name} what to write", f"end it in {known}")
    if ending == ".mp4" and importlib.util.find_spec("av") is None:
        raise UsageError(
            "MP4 needs PyAV, which is not installed",
            'pip install "ffsplat[video]", or end the name in .webp or .gif',
        )
    return ending in ANIMATIONS


def save_picture(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]], path: Path, overwrite: bool = False
) -> None:
    """Write the first frame as a still, or all as an endless animation, as the ending says.

    Frames are taken one by one, so they need not all fit in memory; MP4 repeats an odd last row or
    column, for its colour format needs even sides. Raises OutputError as `atomic_output`.
    """
    ending = path.suffix.lower()
    with atomic_output(path, overwrite) as file:
        if ending == ".mp4":
            _encode_mp4(frames, file)
            return
        images: Iterator[Image.Image] = map(Image.fromarray, frames)
        first = next(images)
        if ending in STILLS:
            first.save(file, STILLS[ending])
            return
        pace = {"duration": 1000 // FRAMES_A_SECOND, "loop": 0}
        first.save(file, ANIMATIONS[ending], save_all=True, append_images=images, **pace)


def _encode_mp4(frames: Iterable[UInt8[np.ndarray, "h w 3"]], file: Any) -> None:
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
