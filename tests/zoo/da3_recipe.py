"""Weights, photos and small sizes that both networks get: anyone can draw them again by name."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ffsplat.zoo.da3_names import PRESETS

REDUCED = {
    "da3-small": replace(
        PRESETS["da3-small"], width=48, heads=3, view_blocks=2, cross_blocks=6, camera_block=2,
        query_norm_from=2, rotary_from=2, taps=(3, 4, 5, 7), camera_encoder=2, dpt_width=32,
        dpt_channels=(8, 16, 24, 32),
    ),
    # As in the giant one, cameras come at an odd block and taps are of both kinds.
    "da3-giant": replace(
        PRESETS["da3-giant"], width=96, heads=6, view_blocks=4, cross_blocks=6, camera_block=5,
        query_norm_from=5, rotary_from=5, taps=(6, 7, 8, 9), camera_encoder=2, dpt_width=32,
        dpt_channels=(16, 24, 32, 32),
    ),
}  # fmt: skip
"""Networks of a published structure, with fewer and narrower blocks."""

RECORDING = Path(__file__).with_name("da3_recorded.npz")
"""Samples of what the original says with weights of RECORDED_SEED about photos of it."""
RECORDED_SEED = 7
RECORDED_CASES = ((1, 56, 70), (3, 70, 42), (4, 42, 56))
"""Views, height, width."""


def sample_name(name: str, case: tuple[int, int, int], known: bool) -> str:
    """Of one array of the recording; `known` says that the cameras were given."""
    return "-".join([name, *map(str, case)] + ["known"] * known)


def draw_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A tensor of the original, by its name without the prefix of files.

    No parameter keeps a value at which it could be left out: gains are not 1, biases not 0. Values
    are of a size with which features stay near 1 through all blocks.
    """
    for level in range(4):  # these four share one norm
        name = name.replace(f"_aux.{level}.2.", "_aux.0.2.")
    values = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if name.endswith("fc_fov.0.bias"):
        values = 1 + 0.1 * values  # so that no field of view is near 0
    elif "fc_fov" in name:
        values *= 0.1 / np.sqrt(shape[1])
    elif name.endswith("bias"):
        values *= 0.1
    elif name.endswith("gamma"):
        values = 0.3 + 0.1 * values
    elif len(shape) == 1:
        values = 1 + 0.2 * values
    elif name.endswith(("token", "pos_embed")):
        values *= 0.5
    else:
        if name.startswith("head.") and name.endswith(("conv2.2.weight", "_aux.3.5.weight")):
            values *= 0.3  # what follows is an exponential
        transposed = "resize_layers.0" in name or "resize_layers.1" in name
        values /= np.sqrt(shape[0] if transposed else np.prod(shape[1:]))
    return values.astype(np.float32)


def draw_photos(views: int, height: int, width: int, seed: int) -> np.ndarray:
    """Photos of (1, views, 3, height, width) in [0, 1]: smooth blobs and some noise."""
    rng = np.random.default_rng([seed, views, height, width])
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = rng.uniform(2, 12, (views, 3, 2, 1, 1))
    phase = rng.uniform(0, 6.3, (views, 3, 1, 1))
    smooth = 0.5 + 0.4 * np.sin(waves[:, :, 0] * x + waves[:, :, 1] * y + phase)
    noisy = smooth + 0.1 * rng.standard_normal(smooth.shape)
    return noisy.clip(0, 1).astype(np.float32)[None]


def draw_cameras(views: int, height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Poses (world from camera) of (1, views, 4, 4) and intrinsics in pixels."""
    rng = np.random.default_rng([seed, views, 1])
    rotation, _ = np.linalg.qr(rng.standard_normal((views, 3, 3)))
    rotation *= np.linalg.det(rotation)[:, None, None]
    poses = np.tile(np.eye(4), (views, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotation, rng.standard_normal((views, 3))
    focal = max(height, width) * rng.uniform(0.7, 1.2, (views, 2))
    intrinsics = np.zeros((views, 3, 3))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 2, 2] = *focal.T, 1
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = width / 2, height / 2
    return poses[None].astype(np.float32), intrinsics[None].astype(np.float32)
