"""A scene as a compact `.safetensors`: any language opens it.

The tensors are those of `ffsplat.formats.columns`, 12 bytes of codes a Gaussian at K = 4.
"""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, deserialize

from ffsplat.errors import SceneFileError
from ffsplat.formats.columns import FORMAT, check_columns, columns_of, scene_of
from ffsplat.formats.packing import MAX_GAUSSIANS
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import read_limited
from ffsplat.types import Scene

MAX_HEADER = 1 << 16
KINDS = {"F32": "<f4", "U16": "<u2", "U8": "|u1", "I32": "<i4"}


def write(scene: Scene, path: str | Path, *, overwrite: bool = False) -> None:
    """Write all of the scene; the same scene is the same file.

    Raises OutputError as `atomic_output`, and for Gaussians that are not finite.
    """
    content = safetensors.numpy.save(columns_of(scene), {"format": FORMAT})
    with atomic_output(path, overwrite, len(content)) as file:
        file.write(content)


def read(path: str | Path) -> Scene:
    """Read what `write` wrote; SceneFileError names what is wrong."""
    path = Path(path)
    content = read_limited(path, 1024 * MAX_GAUSSIANS)
    size = int.from_bytes(content[:8], "little")
    if size > MAX_HEADER:
        raise SceneFileError(f"{path.name} is not a scene: its header has {size} bytes")
    try:
        tensors = deserialize(content)  # checks the header's grammar, offsets and coverage
        header = json.loads(content[8 : 8 + size])
    except (SafetensorError, ValueError, RecursionError) as error:
        raise SceneFileError(f"{path.name} is not a scene: {str(error)[:200]}") from error
    if (header.get("__metadata__") or {}).get("format") != FORMAT:
        raise SceneFileError(f"{path.name} is not marked as {FORMAT}")
    kinds = {
        name: (KINDS.get(tensor["dtype"], str(tensor["dtype"])), tuple(tensor["shape"]))
        for name, tensor in tensors
    }
    check_columns(kinds, path.name)
    columns = {
        name: np.frombuffer(tensor["data"], kinds[name][0]).reshape(tensor["shape"])
        for name, tensor in tensors
    }
    return scene_of(columns, path.name)
