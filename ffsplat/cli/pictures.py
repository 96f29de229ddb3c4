"""Images and animations as files, of the kind that their endings say."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ffsplat.errors import UsageError
from ffsplat.io import atomic_output
from ffsplat.render.animation import ANIMATIONS, has_mp4, write_animation

STILLS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def is_animation(path: Path) -> bool:
    """Whether a file's ending stands for an animation; UsageError for one that is not known."""
    ending = path.suffix.lower()
    if ending not in STILLS | ANIMATIONS:
        known = ", ".join([*STILLS, *ANIMATIONS])
        raise UsageError(f"cannot tell from {path.name} what to write", f"end it in {known}")
    if ending == ".mp4" and not has_mp4():
        raise UsageError(
            "MP4 needs PyAV, which is not installed",
            'pip install "ffsplat[video]", or end the name in .webp or .gif',
        )
    return ending in ANIMATIONS


def save_picture(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]], path: Path, overwrite: bool = False
) -> None:
    """Write the first frame as a still, or all as an endless animation, as the ending says.

    Frames are taken one by one, so they need not all fit in memory. Raises OutputError as
    `atomic_output`.
    """
    ending = path.suffix.lower()
    with atomic_output(path, overwrite) as file:
        if ending in ANIMATIONS:
            write_animation(frames, file, ending)
        else:
            Image.fromarray(next(iter(frames))).save(file, STILLS[ending])
