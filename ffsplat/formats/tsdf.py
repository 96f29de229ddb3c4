"""A surface from depth maps: a truncated signed distance field, and its zero crossing as triangles.

Source: Curless and Levoy, "A volumetric method for building complex models from range images",
1996; distances are along the viewing axis, as in KinectFusion (Newcombe et al., 2011). Triangles
are by scikit-image's marching cubes (Lewiner et al., 2003). Where no view saw, nothing is made up.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ffsplat.compiled import exactly_compiled
from ffsplat.errors import UsageError

TRUNCATION = 4.0
"""Distance, in voxels, beyond which a surface tells nothing about what is behind it."""

JUMP = 0.1
"""Neighbouring depths that differ by a larger share lie on two surfaces; neither pixel is used."""

MAX_VOXELS = 1 << 28


@dataclass(frozen=True, eq=False)
class Volume:
    """A grid of voxels, their centres from `origin` on, `voxel` apart, in world units.

    `distances` is the mean signed distance to the surface, in front of it positive, in units of
    the truncation and cut at 1; `weights` counts the views behind it.
    """

    origin: Float32[np.ndarray, "3"]
    voxel: float
    distances: Float32[np.ndarray, "x y z"]
    weights: Float32[np.ndarray, "x y z"]

    @property
    def truncation(self) -> float:
        """In world units."""
        return TRUNCATION * self.voxel


def empty_volume(points: Float32[np.ndarray, "n 3"], longest: int) -> Volume:
    """A volume around points with `longest` voxels along its longest side.

    One point in a thousand is left out at either end of each axis. Raises UsageError for more than
    MAX_VOXELS or fewer than 8 along a side.
    """
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    extent = float((high - low).max())
    if not longest >= 8 or extent <= 0:
        raise UsageError(f"{longest} voxels cannot show a surface", "--mesh-voxels 256")
    voxel = extent / longest
    margin = TRUNCATION * voxel
    shape = np.ceil((high - low + 2 * margin) / voxel).astype(int) + 1
    if np.prod(shape.astype(np.int64)) > MAX_VOXELS:
        raise UsageError(
            f"a volume of {' x '.join(map(str, shape))} voxels is too large", "lower --mesh-voxels"
        )
    return Volume(
        (low - margin).astype(np.float32),
        voxel,
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
    )


def integrate(
    volume: Volume,
    depth: Float32[np.ndarray, "h w"],
    camera_from_world: Float32[np.ndarray, "4 4"],
    intrinsics: Float32[np.ndarray, "3 3"],
) -> None:
    """Add a view to a volume, in place: z-depth in world units, 0 where it is not known."""
    _integrate(
        volume.distances,
        volume.weights,
        volume.origin,
        np.float32(volume.voxel),
        camera_from_world,
        intrinsics,
        depth,
        np.float32(volume.truncation),
    )


def on_one_surface(depth: Float32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels with depth whose four neighbours with depth lie within JUMP of theirs."""
    good = depth > 0
    for axis in (0, 1):
        near, far = np.moveaxis(depth, axis, 0)[:-1], np.moveaxis(depth, axis, 0)[1:]
        jump = (np.abs(near - far) > JUMP * np.minimum(near, far)) & (near > 0) & (far > 0)
        view = np.moveaxis(good, axis, 0)
        view[:-1] &= ~jump
        view[1:] &= ~jump
    return good


def triangles(
    volume: Volume,
) -> tuple[Float32[np.ndarray, "vertices 3"], Int64[np.ndarray, "faces 3"]]:
    """The surface as vertices in the world and faces, anticlockwise as seen from in front of it.

    Only cubes of which every corner was seen make triangles. Raises UsageError without any.
    """
    measure = _marching()
    seen = volume.weights > 0
    if not (volume.distances < 0).any() or not (volume.distances[seen] > 0).any():
        raise UsageError("the views show no surface", "are these the cameras of the scene?")
    vertices, faces, _, _ = measure.marching_cubes(
        volume.distances, 0.0, gradient_direction="descent"
    )
    whole = seen[:-1] & seen[1:]
    whole = whole[:, :-1] & whole[:, 1:]
    whole = whole[:, :, :-1] & whole[:, :, 1:]
    cube = np.floor(vertices[faces].mean(axis=1)).astype(np.int64)
    cube = np.minimum(cube, np.array(whole.shape) - 1)
    faces = faces[whole[tuple(cube.T)]]
    used, numbers = np.unique(faces, return_inverse=True)
    placed = volume.origin + volume.voxel * vertices[used]
    if not len(used):
        raise UsageError("the views show no surface", "are these the cameras of the scene?")
    return placed.astype(np.float32), numbers.reshape(-1, 3).astype(np.int64)


def _marching():
    try:
        from skimage import measure
    except ImportError as error:
        raise UsageError(
            "meshes need scikit-image, which is not installed", 'pip install "ffsplat[mesh]"'
        ) from error
    return measure


@exactly_compiled
def _integrate(distances, weights, origin, voxel, pose, lens, depth, truncation):
    """Project each voxel into the view, and average its distance to the surface there."""
    height, width = depth.shape
    for i in range(distances.shape[0]):
        for j in range(distances.shape[1]):
            for k in range(distances.shape[2]):
                x, y, z = origin[0] + i * voxel, origin[1] + j * voxel, origin[2] + k * voxel
                ahead = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3]
                if ahead <= 0:
                    continue
                across = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]
                down = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]
                u = lens[0, 0] * across / ahead + lens[0, 2]
                v = lens[1, 1] * down / ahead + lens[1, 2]
                if not (0 <= u < width and 0 <= v < height):
                    continue
                surface = _depth_at(depth, u - 0.5, v - 0.5)
                distance = surface - ahead
                if surface <= 0 or distance < -truncation:
                    continue
                weight = weights[i, j, k]
                mean = distances[i, j, k] * weight + min(1.0, distance / truncation)
                distances[i, j, k] = mean / (weight + 1)
                weights[i, j, k] = weight + 1


@exactly_compiled
def _depth_at(depth, x, y):
    """Depth between pixel centres, linear in its inverse as on a plane; 0 beside a missing one."""
    height, width = depth.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    a, b = depth[top, left], depth[top, left + 1]
    c, d = depth[top + 1, left], depth[top + 1, left + 1]
    if min(min(a, b), min(c, d)) <= 0:
        return 0.0
    s, t = x - left, y - top
    inverse = (1 - t) * ((1 - s) / a + s / b) + t * ((1 - s) / c + s / d)
    return 1 / inverse
