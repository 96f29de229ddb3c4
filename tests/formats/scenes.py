"""Scenes for tests of formats, and how near two clouds of Gaussians are."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ffsplat.formats import FORMATS
from ffsplat.types import Cameras, Gaussians, Scene
from tests.io.scenes import random_scene

SPLATS = ("ply", "compressed-ply", "splat", "spz", "sog", "gltf", "npz", "safetensors")
"""Formats that hold whole Gaussians, read and written."""

COUNT = 600
"""Not a multiple of 256, and more than two chunks of it."""


def name_of(format_: str) -> str:
    """A file name of that format."""
    return "scene" + FORMATS[format_].suffixes[0]


def small_scene(sh: int = 1, codes: int = 4, count: int = COUNT) -> Scene:
    """A scene with everything that a format may lose, colours and SH in the range of photos."""
    scene = random_scene(count, sh, codes, meaning=True)
    random = np.random.default_rng(5)
    table = random.uniform(-1, 1, (count, sh, 3)).astype(np.float32) * 0.9
    gaussians = replace(scene.gaussians, sh=table)
    return replace(scene, gaussians=gaussians, cameras=two_cameras())


def two_cameras() -> Cameras:
    turn = np.array([[0, 0, 1, 0.25], [0, 1, 0, -0.5], [-1, 0, 0, 2], [0, 0, 0, 1]], np.float32)
    lens = np.array([[500.5, 0, 320.25], [0, 501, 241], [0, 0, 1]], np.float32)
    return Cameras(
        np.stack([np.eye(4, dtype=np.float32), turn]),
        np.stack([lens, lens]),
        np.array([[640, 480], [480, 640]], np.int32),
        ("a.jpg", "b.jpg"),
    )


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in degrees between rotations given as unit quaternions."""
    a, b = (
        q / np.linalg.norm(q, axis=1, keepdims=True) for q in (a.astype(float), b.astype(float))
    )
    sign = np.sign(np.einsum("nk,nk->n", a, b))[:, None]
    return np.degrees(4 * np.arcsin(np.clip(np.linalg.norm(a - b * sign, axis=1) / 2, 0, 1)))


def differences(a: Gaussians, b: Gaussians) -> dict[str, float]:
    """The largest difference of each parameter, row by row; scales as logarithms."""
    kept = min(a.sh.shape[1], b.sh.shape[1])
    return {
        "means": float(np.abs(a.means - b.means).max()),
        "scales": float(np.abs(np.log(a.scales) - np.log(b.scales)).max()),
        "angles": float(angles(a.quaternions_wxyz, b.quaternions_wxyz).max()),
        "opacities": float(np.abs(a.opacities - b.opacities).max()),
        "colors": float(np.abs(a.sh[:, 0] - b.sh[:, 0]).max()),
        "sh": float(np.abs(a.sh[:, 1:kept] - b.sh[:, 1:kept]).max(initial=0)),
    }


def assert_near(a: Gaussians, b: Gaussians, limits: Mapping[str, float]) -> None:
    """Every parameter differs by at most its limit."""
    assert len(a) == len(b)
    found = differences(a, b)
    assert all(found[key] <= limits[key] for key in found), (found, limits)
