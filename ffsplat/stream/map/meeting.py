"""What a new view shares with the keyframes of its window: surfaces that both see, and free space.

Every pixel that becomes a Gaussian joins the one that a keyframe made of the same surface, as in
projective data association (Keller et al., "Real-Time 3D Reconstruction in Dynamic Scenes using
Point-Based Fusion", 3DV 2013); it goes if it stands where others look through. The rules are those
of `consistency.agreement`, in one pass over the pixels of one view.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from ffsplat.consistency import FREE_SPACE, SAME_SURFACE, VETO
from ffsplat.geometric import ERROR_SCALE
from ffsplat.prediction import Prediction
from ffsplat.stream.map.carve import nearest_around
from ffsplat.stream.map.compiled import lean


@dataclass(frozen=True, eq=False)
class Meeting:
    """The pixels of a new view: which stay, and where others show the same point.

    `pixels` holds for each of the other views the flat index of the pixel that agrees, -1 where
    none does. `known` is the share of the pixels that stay which some other view agrees with.
    """

    kept: Bool[np.ndarray, " p"]
    pixels: Int64[np.ndarray, "others p"]
    known: float


def meet(
    prediction: Prediction, kept: Bool[np.ndarray, "v h w"], new: int, others: Sequence[int]
) -> Meeting:
    """Compare view `new` of one set, on the CPU, with `others`, by the pixels `kept` of each."""
    depth = prediction.depth[0].float().numpy()
    error = prediction.depth_error[0].float().numpy()
    own, last = depth[new], new - len(depth)  # Gaussians may be those of the last views only
    if prediction.depth_offsets is not None:
        own = own + prediction.depth_offsets[0, last].float().numpy()
    poses = prediction.world_from_camera[0].double().numpy()
    intrinsics = prediction.intrinsics[0].double().numpy()
    rows = np.array(others, np.int64)
    cameras = intrinsics[rows] @ (np.linalg.inv(poses[rows]) @ poses[new])[:, :3]
    stays, pixels = np.empty(own.shape, bool), np.empty((len(rows), *own.shape), np.int64)
    confidence = np.exp(error / np.float32(-ERROR_SCALE))
    known = _meet(
        own, depth, error, confidence, kept, prediction.offsets[0, last].float().numpy(),
        np.linalg.inv(intrinsics[new]), cameras, new, rows, stays, pixels,
    )  # fmt: skip
    return Meeting(stays.ravel(), pixels.reshape(len(rows), own.size), known)


@lean
def _meet(
    own, depth, error, confidence, kept, offsets, from_pixel, cameras, new, others, stays, pixels
):
    h, w = own.shape
    staying = agreeing = 0
    for row in range(h):
        for column in range(w):
            stays[row, column] = kept[new, row, column]
            pixels[:, row, column] = -1
            if not stays[row, column]:
                continue
            u, v = column + 0.5 + offsets[row, column, 0], row + 0.5 + offsets[row, column, 1]
            z = own[row, column]
            x = (from_pixel[0, 0] * u + from_pixel[0, 1] * v + from_pixel[0, 2]) * z
            y = (from_pixel[1, 0] * u + from_pixel[1, 1] * v + from_pixel[1, 2]) * z
            support, veto, known = confidence[new, row, column], 0.0, False
            for slot in range(len(others)):
                camera, other = cameras[slot], others[slot]
                there = camera[2, 0] * x + camera[2, 1] * y + camera[2, 2] * z + camera[2, 3]
                if not there > 0:
                    continue
                a = (camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z + camera[0, 3]) / there
                b = (camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z + camera[1, 3]) / there
                seen, usable = depth[other], kept[other]
                if not (0 <= a < w and 0 <= b < h) or not usable[int(b), int(a)]:
                    continue
                i, j = int(b), int(a)
                both = error[new, row, column] + error[other, i, j]
                ratio = np.float32(seen[i, j] / there)
                if is_within(ratio, max(both, SAME_SURFACE)):
                    support += confidence[other, i, j]
                    pixels[slot, row, column] = i * w + j
                    known = True
                elif ratio > 1 and looks_through(seen, usable, i, j, there, both):
                    veto += confidence[other, i, j]
            if veto > VETO * support:
                stays[row, column] = False
                continue
            staying += 1
            agreeing += known
    return agreeing / max(staying, 1)


@lean
def is_within(ratio, tolerance):
    """Whether the logarithm of a ratio is at most this large, up or down.

    |log r| is at most |r - 1| / min(r, 1), and at least |r - 1| / max(r, 1): that mostly tells.
    """
    off = abs(ratio - 1)
    if off <= tolerance * min(ratio, np.float32(1)):
        return True
    if off > tolerance * max(ratio, np.float32(1)):
        return False
    return abs(np.log(ratio)) <= tolerance


@lean
def looks_through(seen, usable, i, j, there, both):
    """Whether a pixel and those around it see what is behind a point at a depth, beyond errors."""
    edge = there * np.exp(max(both, FREE_SPACE))
    return seen[i, j] > edge and nearest_around(seen, usable, i, j) > edge
