"""The `.splat` file: 32 bytes a Gaussian, no header.

Position and linear scale as three float32 each, then red, green, blue, opacity, and the rotation
w, x, y, z as 128 + 128 q. Source: antimatter15/splat, convert.py (2023), which defined it.
"""

from pathlib import Path

import numpy as np

from ffsplat.errors import SceneFileError
from ffsplat.formats.packing import MAX_GAUSSIANS, Parts, byte, dc_of, readable, writable
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import read_limited
from ffsplat.types import Scene

ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])


def write(scene: Scene, path: str | Path, *, overwrite: bool = False) -> None:
    """Write positions, scales, colours without direction, opacities and rotations.

    Raises OutputError as `atomic_output`, and for Gaussians that are not finite.
    """
    gaussians = writable(scene)
    rows = np.empty(len(gaussians), ROW)
    rows["mean"], rows["scale"] = gaussians.means, gaussians.scales
    rows["rgba"][:, :3] = byte(gaussians.colors * 255)
    rows["rgba"][:, 3] = byte(gaussians.opacities * 255)
    rows["rotation"] = byte(gaussians.quaternions_wxyz * 128 + 128)
    with atomic_output(path, overwrite, rows.nbytes) as file:
        file.write(rows.tobytes())


def read(path: str | Path) -> Scene:
    """Read such a file by any tool; SceneFileError names what is wrong."""
    path = Path(path)
    content = read_limited(path, MAX_GAUSSIANS * ROW.itemsize)
    if len(content) % ROW.itemsize:
        raise SceneFileError(f"{path.name} has {len(content)} bytes, no multiple of 32")
    rows = np.frombuffer(content, ROW)
    colors = rows["rgba"].astype(np.float32) / np.float32(255)
    rotations = (rows["rotation"].astype(np.float32) - 128) / 128
    rotations[(rows["rotation"] == 128).all(axis=1)] = (1, 0, 0, 0)  # 0 by rounding: any will do
    parts = Parts(rows["mean"], rows["scale"], rotations, colors[:, 3], dc_of(colors[:, :3]))
    return Scene(readable(parts, path.name))
