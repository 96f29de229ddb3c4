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
from ffsplat.stream.map.compiled import lean, pixel


@dataclass(frozen=True, eq=False)
class Meeting:
    """The pixels of a new view: which stay, and where others show the same point.

    `pixels` holds for each of the other views the flat index of the pixel that agrees, -1 where
    none does.
    """

    kept: Bool[np.ndarray, " p"]
    pixels: Int64[np.ndarray, "others p"]


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
    into = intrinsics[rows] @ (np.linalg.inv(poses[rows]) @ poses[new])[:, :3]
    into[:, :, :3] = into[:, :, :3] @ np.linalg.inv(intrinsics[new])
    stays, pixels = np.empty(own.shape, bool), np.empty((len(rows), *own.shape), np.int64)
    confidence = np.exp(error / np.float32(-ERROR_SCALE))
    _meet(
        own, depth, error, confidence, kept, prediction.offsets[0, last].float().numpy(), into,
        new, rows, stays, pixels, np.empty((5, own.shape[1])),
    )  # fmt: skip
    return Meeting(stays.ravel(), pixels.reshape(len(rows), own.size))


@lean
def _meet(own, depth, error, confidence, kept, offsets, into, new, others, stays, pixels, line):
    """Row by row, each row with one other view after the other."""
    x, y, there, support, veto = line
    for row in range(len(own)):
        for j in range(len(x)):
            support[j], veto[j] = confidence[new, row, j], 0.0
        for slot in range(len(others)):
            other = others[slot]
            _fall(own[row], offsets[row], into[slot], row, x, y, there)
            _look(
                x, y, there, kept[new, row], error[new, row], depth[other], error[other],
                confidence[other], kept[other], pixels[slot, row], support, veto,
            )  # fmt: skip
        for j in range(len(x)):
            stays[row, j] = kept[new, row, j] and not veto[j] > VETO * support[j]


@lean
def _fall(own, offsets, into, row, x, y, there):
    """Where the points of one row fall in another view, and their depth there."""
    a0, a1, a2, a3 = into[0]
    b0, b1, b2, b3 = into[1]
    c0, c1, c2, c3 = into[2]
    for j in range(len(x)):
        z = own[j]
        u, v = z * (j + 0.5 + offsets[j, 0]), z * (row + 0.5 + offsets[j, 1])
        depth = c0 * u + c1 * v + c2 * z + c3
        near = 1 / depth
        there[j] = depth
        x[j] = (a0 * u + a1 * v + a2 * z + a3) * near
        y[j] = (b0 * u + b1 * v + b2 * z + b3) * near


@lean
def _look(x, y, there, asked, error, depth, their_error, confidence, kept, pixels, support, veto):
    """Add what another view says of the points of one row that fall into it, if they are asked."""
    h, w = depth.shape
    for j in range(len(x)):
        pixels[j] = -1
        if not (asked[j] and there[j] > 0 and 0 <= x[j] < w and 0 <= y[j] < h):
            continue
        row, column = pixel(y[j]), pixel(x[j])
        if not kept[row, column]:
            continue
        both = error[j] + their_error[row, column]
        ratio = np.float32(depth[row, column] / there[j])
        if is_within(ratio, max(both, SAME_SURFACE)):
            support[j] += confidence[row, column]
            pixels[j] = np.int64(row) * w + np.int64(column)
        elif ratio > 1 and looks_through(depth, kept, int(row), int(column), there[j], both):
            veto[j] += confidence[row, column]


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
