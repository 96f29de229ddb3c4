"""Ground truth of rooms checked against itself: pixels of one view found again in another."""

from dataclasses import dataclass

import numpy as np

from data.landing import land, lift
from data.rooms.render import RoomBatch


@dataclass(frozen=True)
class Agreement:
    """How well the other views of each clip agree with the first.

    Covisible fraction of pixels, median relative depth error there, shares of them with the same
    whole, part and instance label, median cosine between the two normals.
    """

    covisible: float
    depth_error: float
    whole: float
    part: float
    instance: float
    normal_cosine: float


def reprojection(batch: RoomBatch, tolerance: float = 0.02) -> Agreement:
    """Lift the first view's pixels by depth and pose, look them up in the other views.

    A pixel is covisible if its depth there agrees within `tolerance` (relative); normals are
    compared in the world.
    """
    rooms = {name: value.numpy() for name, value in vars(batch).items() if name in _COMPARED}
    found = [
        _pair({name: value[room] for name, value in rooms.items()}, view, tolerance)
        for room in range(len(batch.depth))
        for view in range(1, batch.depth.shape[1])
    ]
    joined = {name: np.concatenate([pair[name] for pair in found]) for name in found[0]}
    return Agreement(
        covisible=float(joined["visible"].mean()),
        depth_error=float(np.median(joined["error"])),
        whole=float(joined["whole"].mean()),
        part=float(joined["part"].mean()),
        instance=float(joined["instance"].mean()),
        normal_cosine=float(np.median(joined["cosine"])),
    )


_LABELS = ("whole", "part", "instance")
_COMPARED = ("depth", "intrinsics", "world_from_camera", "normals", *_LABELS)


def _pair(room: dict[str, np.ndarray], view: int, tolerance: float) -> dict[str, np.ndarray]:
    """What the covisible pixels of the first view and another one say."""
    depth, k, pose = room["depth"], room["intrinsics"], room["world_from_camera"]
    points = lift(depth[0], k[0], pose[0])
    seen = land(points, k[view], pose[view], depth[0].shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(depth[view].ravel()[seen.index] / seen.z - 1)
    visible = seen.inside & (error < tolerance)
    there = seen.index[visible]
    first = room["normals"][0].reshape(-1, 3)[visible] @ pose[0, :3, :3].T
    other = room["normals"][view].reshape(-1, 3)[there] @ pose[view, :3, :3].T
    same = {
        name: room[name][view].ravel()[there] == room[name][0].ravel()[visible] for name in _LABELS
    }
    cosine = (first * other).sum(-1)
    return {"visible": visible, "error": error[visible], "cosine": cosine, **same}
