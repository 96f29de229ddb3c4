"""Depth maps as 16-bit PNG with a stated step, or as one npz."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from ffsplat.errors import OutputError
from ffsplat.io.atomic import atomic_output, atomic_outputs, check_output

STEPS = 65535
"""The largest value of a 16-bit pixel."""


def write_depth(
    depth: Float[np.ndarray, "v h w"],
    names: tuple[str, ...],
    path: str | Path,
    *,
    metric: bool = False,
    overwrite: bool = False,
) -> None:
    """Write z-depth in world units; values that are not finite or not above 0 are unmeasured.

    A path ending in `.npz` gets the arrays `depth` (float32, 0 where unmeasured) and `names`.
    Any other path is a folder of `0000.png`, ... and `depth.json`, which gives the names in order
    and the world units of one step: the power of ten that fits the largest depth, a millimetre
    for a room in metres. Raises OutputError as `atomic_output`.
    """
    path = Path(path)
    clean = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
    if path.suffix == ".npz":
        with atomic_output(path, overwrite) as file:
            np.savez_compressed(file, depth=clean, names=np.array(names, np.str_))
        return
    step = _step(float(clean.max(initial=0)))
    files = [f"{i:04d}.png" for i in range(len(names))]
    facts: dict[str, Any] = {
        "format": "ffsplat.depth 1",
        "units_per_step": step,
        "unit": "metre" if metric else "scene",
        "unmeasured": 0,
        "views": [{"name": n, "file": f} for n, f in zip(names, files, strict=True)],
    }
    made = _make_folder(path)
    try:
        targets = [path / name for name in [*files, "depth.json"]]
        with atomic_outputs(targets, overwrite) as outputs:
            for output, view in zip(outputs, clean, strict=False):
                output.write(_png(view, step))
            outputs[-1].write(json.dumps(facts, indent=1).encode() + b"\n")
    except BaseException:
        if made:
            path.rmdir()
        raise


def _step(largest: float) -> float:
    return 10.0 ** math.ceil(math.log10(largest / STEPS)) if largest > 0 else 1e-3


def _png(view: Float[np.ndarray, "h w"], step: float) -> bytes:
    steps = np.minimum(np.rint(view.astype(np.float64) / step), STEPS).astype(np.uint16)
    content = io.BytesIO()
    Image.fromarray(steps).save(content, "PNG")
    return content.getvalue()


def _make_folder(path: Path) -> bool:
    """Make the folder unless it is there; True if it was made."""
    if path.is_dir():
        return False
    check_output(path)
    try:
        path.mkdir()
    except OSError as error:
        raise OutputError(f"cannot make folder {path}: {error.strerror}") from error
    return True
