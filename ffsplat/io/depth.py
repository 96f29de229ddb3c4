"""Depth maps as 16-bit PNG with a stated step, or as one npz."""

import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from ffsplat.errors import OutputError
from ffsplat.io.atomic import atomic_output, atomic_outputs, check_output

STEPS = 65535
"""The largest value of a 16-bit pixel."""

IMAGE_ENDINGS = (".png", ".tif", ".tiff", ".exr", ".npy")
"""Whoever gives a depth output such a name expects one file, not a folder."""


def depth_outputs(path: str | Path, views: int) -> list[Path]:
    """The files that `write_depth` writes for so many views: one `.npz`, or those of a folder."""
    path = Path(path)
    if _is_archive(path):
        return [path]
    return [*(path / f"{i:04d}.png" for i in range(views)), path / "depth.json"]


def check_depth_output(path: str | Path, views: int, overwrite: bool = False) -> None:
    """Refuse what `write_depth` could not write; OutputError as `check_output`."""
    path = Path(path)
    if _is_archive(path) or path.is_dir():
        for output in depth_outputs(path, views):
            check_output(output, overwrite)
        return
    if os.path.lexists(path) or path.suffix.lower() in IMAGE_ENDINGS:
        raise OutputError(f"{path} is not a folder", "name a folder, or a file that ends in .npz")
    check_output(path)


def write_depth(
    depth: Float[np.ndarray, "v h w"] | Sequence[Float[np.ndarray, "h w"]],
    names: tuple[str, ...],
    path: str | Path,
    *,
    metric: bool = False,
    original_from_view: Float[np.ndarray, "v 3 3"] | None = None,
    overwrite: bool = False,
) -> None:
    """Write z-depth in world units; values that are not finite or not above 0 are unmeasured.

    A path ending in `.npz` gets the arrays `depth` (float32, 0 where unmeasured), `names`, and
    `original_from_depth`: for each view the matrix from its homogeneous pixels to those of the
    photo; its maps must be of one size. Any other path is a folder of `0000.png`, ... and
    `depth.json`, which gives names and matrices in order and the world units of one step: the power
    of ten that fits the largest depth, a millimetre for a room in metres. Raises OutputError as
    `atomic_output`.
    """
    path = Path(path)
    clean = [np.where(np.isfinite(d) & (d > 0), d, 0).astype(np.float32) for d in depth]
    matrices = np.tile(np.eye(3), (len(names), 1, 1))
    if original_from_view is not None:
        matrices[:] = original_from_view
    if _is_archive(path):
        if len({one.shape for one in clean}) > 1:
            raise OutputError(f"{path} cannot hold maps of several sizes", "name a folder instead")
        with atomic_output(path, overwrite) as file:
            listed, stacked = np.array(names, np.str_), np.stack(clean)
            np.savez_compressed(file, depth=stacked, names=listed, original_from_depth=matrices)
        return
    targets = depth_outputs(path, len(names))
    step = _step(max(float(one.max(initial=0)) for one in clean))
    facts: dict[str, Any] = {
        "format": "ffsplat.depth 1",
        "units_per_step": step,
        "unit": "metre" if metric else "scene",
        "unmeasured": 0,
        "views": [
            {"name": name, "file": file.name, "original_from_depth": matrix.tolist()}
            for name, file, matrix in zip(names, targets[:-1], matrices, strict=True)
        ],
    }
    check_depth_output(path, len(names), overwrite)
    with _folder(path), atomic_outputs(targets, overwrite) as outputs:
        for output, view in zip(outputs[:-1], clean, strict=True):
            output.write(_png(view, step))
        outputs[-1].write(json.dumps(facts, indent=1).encode() + b"\n")


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _step(largest: float) -> float:
    return 10.0 ** math.ceil(math.log10(largest / STEPS)) if largest > 0 else 1e-3


def _png(view: Float[np.ndarray, "h w"], step: float) -> bytes:
    steps = np.minimum(np.rint(view.astype(np.float64) / step), STEPS).astype(np.uint16)
    content = io.BytesIO()
    Image.fromarray(steps).save(content, "PNG")
    return content.getvalue()


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make the folder if it is not there, and take it away again if the block raises."""
    if path.is_dir():
        yield
        return
    try:
        path.mkdir()
    except OSError as error:
        raise OutputError(f"cannot make folder {path}: {error.strerror}") from error
    try:
        yield
    except BaseException:
        path.rmdir()
        raise
