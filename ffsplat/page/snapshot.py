"""A scene as the snapshot of a map: what the page of a stream draws."""

import numpy as np
from jaxtyping import Float64

from ffsplat.errors import OutputError
from ffsplat.stream.delta import CODES, FramePoses, MapDelta, SplatRows
from ffsplat.stream.protocol.checks import FAR
from ffsplat.stream.turns import quaternion_of
from ffsplat.types import NO_ID, Cameras, Codebook, Scene

MAX_SPLATS = 1 << 21
"""What the page has room for, see `replica.js`."""


def snapshot_of(scene: Scene) -> MapDelta:
    """All of a scene in one submap, cameras as keyframes, of the codebook the names alone.

    Raises OutputError for more than MAX_SPLATS Gaussians, or one beyond FAR.
    """
    if len(scene) > MAX_SPLATS:
        raise OutputError(
            f"the scene has {len(scene)} Gaussians, a page at most {MAX_SPLATS}",
            "infer with --max-gaussians, or convert to .sog",
        )
    if not (np.abs(scene.gaussians.means) <= FAR).all():
        raise OutputError(
            f"some Gaussians are further away than {FAR:g}, which a page cannot show",
            "take them away with edit, or convert to .ply",
        )
    return MapDelta(
        number=1,
        epoch=0,
        time_ns=0,
        splats=_rows(scene),
        removed=np.zeros(0, np.uint32),
        submaps=np.zeros(1, np.uint16),
        submap_poses=np.array([[1.0, 1, 0, 0, 0, 0, 0, 0]]),
        removed_submaps=np.zeros(0, np.uint16),
        frames=_frames(scene.cameras),
        codebook=None if scene.codebook is None else _names(scene.codebook),
    )


def _rows(scene: Scene) -> SplatRows:
    count, gaussians = len(scene), scene.gaussians
    ids = np.full((count, CODES), NO_ID, np.int16)
    weights = np.zeros((count, CODES), np.uint8)
    if scene.codes is not None and scene.codebook is not None:
        k = min(CODES, scene.codes.ids.shape[1])
        weights[:, :k] = _bytes(scene.codes.weights[:, :k])
        ids[:, :k] = np.where(weights[:, :k] > 0, scene.codes.ids[:, :k], NO_ID)
    none = np.full(count, NO_ID, np.int32)
    return SplatRows(
        gids=np.arange(count, dtype=np.uint32),
        submaps=np.zeros(count, np.uint16),
        means=gaussians.means,
        scales=gaussians.scales.clip(0, np.finfo(np.float16).max).astype(np.float16),
        quaternions_wxyz=np.rint(127 * gaussians.quaternions_wxyz).clip(-127, 127).astype(np.int8),
        opacities=_bytes(gaussians.opacities),
        colors=_bytes(gaussians.colors),
        ids=ids,
        weights=weights,
        instances=none if scene.instances is None else scene.instances,
    )


def _bytes(shares: np.ndarray) -> np.ndarray:
    return np.rint(255 * shares.astype(np.float32)).clip(0, 255).astype(np.uint8)


def _frames(cameras: Cameras | None) -> FramePoses:
    """The cameras in reverse: the page begins at the last one, which is to be the first photo."""
    count = 0 if cameras is None else len(cameras)
    poses: Float64[np.ndarray, "c 7"] = np.zeros((count, 7))
    intrinsics = np.zeros((count, 6), np.float32)
    if cameras is not None:
        for place, i in enumerate(reversed(range(count))):
            pose, lens = cameras.world_from_camera[i].astype(np.float64), cameras.intrinsics[i]
            poses[place] = *quaternion_of(pose[:3, :3]), *pose[:3, 3]
            size = cameras.sizes[i]
            intrinsics[place] = lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2], size[0], size[1]
    return FramePoses(
        numbers=np.arange(count, dtype=np.int64),
        times_ns=np.zeros(count, np.int64),
        submaps=np.zeros(count, np.uint16),
        poses=poses,
        intrinsics=intrinsics,
        keyframes=np.ones(count, np.uint8),
    )


def _names(book: Codebook) -> Codebook:
    """The codebook without its embeddings, as a page asks nothing new; one space it must have."""
    spaces = {"none": np.ones((len(book), 1), np.float16)}
    return Codebook(book.names, book.levels, book.parents, book.counts, spaces)
