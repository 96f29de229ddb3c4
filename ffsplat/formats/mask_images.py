"""Numbered masks of the photos of a scene: a folder of images, one a photo, by the photo's name.

The form in which Gaussian Grouping (Ye et al., ECCV 2024) and Gaga (Lyu et al., 2024) keep what a
segmentation network says: grey values number the masks of one photo, 0 is none. Numbers mean
nothing from one photo to another.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int32

from ffsplat.errors import SceneFileError, UsageError
from ffsplat.evaluation.asking import stem
from ffsplat.evaluation.truth import read_numbers
from ffsplat.formats.cameras import resized
from ffsplat.types import Cameras

SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
"""Images that keep numbers as they are."""

SHAPE_SLACK = 0.02
"""Share by which the shape of a mask may differ from that of its photo: rounded sizes."""


def read_masks(folder: Path, cameras: Cameras) -> tuple[Cameras, list[Int32[np.ndarray, "_ _"]]]:
    """The cameras that have a mask image, at the size of it, and their masks, -1 for none.

    Raises SceneFileError for what is no image of numbers, and UsageError where no image has the
    name of a photo, or one has another shape.
    """
    if not folder.is_dir():
        raise SceneFileError(f"{folder} is not a folder of mask images")
    files = {
        path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES
    }
    rows = [row for row, name in enumerate(cameras.names) if stem(name) in files]
    if not rows:
        raise UsageError(
            f"no mask image in {folder} has the name of a photo",
            f"photos are {', '.join(cameras.names[:6])}; images end in {', '.join(SUFFIXES)}",
        )
    masks = [read_numbers(files[stem(cameras.names[row])]) - 1 for row in rows]
    seen = cameras[rows]
    for name, size, mask in zip(seen.names, seen.sizes, masks, strict=True):
        height, width = mask.shape
        if abs(width * size[1] / (height * size[0]) - 1) > SHAPE_SLACK:
            raise UsageError(
                f"the mask of {name} has {width}x{height} pixels, its photo {size[0]}x{size[1]}"
            )
    return resized(seen, np.array([mask.shape[::-1] for mask in masks], np.int32)), masks
