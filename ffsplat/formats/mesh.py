"""A scene as a coloured triangle mesh, from the depth that its own cameras see of it.

See `ffsplat.formats.tsdf` for the surface. trimesh writes the file: PLY and OBJ in our axes, GLB
turned as our other glTF files are. Colours are the mean of the views that see a vertex. Rendered
depth is that of the centres of splats, the nearer ones first, so a slanted wall comes out nearer
than it is, by up to a pixel of the views.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from ffsplat.errors import UsageError
from ffsplat.formats.cameras import at_most, camera_from_world, cameras_of
from ffsplat.formats.gltf import TURNED
from ffsplat.formats.packing import writable
from ffsplat.formats.points import pixels_of
from ffsplat.formats.tsdf import Volume, empty_volume, integrate, on_one_surface, triangles
from ffsplat.io.atomic import atomic_output
from ffsplat.types import Cameras, Scene

KINDS = ("ply", "obj", "glb")

LONGEST = 640
"""Pixels of the longer side of a view at most: more than its voxels tell apart."""

SOLID = 0.5
"""Opacity from which a pixel shows a surface."""


def write(
    scene: Scene, path: str | Path, *, overwrite: bool = False, mesh_voxels: int = 256
) -> None:
    """Write the surface that the scene's cameras see, as PLY, OBJ or GLB by the path's suffix.

    `mesh_voxels` is the number of voxels along the longest side. Raises UsageError without
    cameras, for another suffix, a volume too large, or where no surface is; OutputError as
    `atomic_output`.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise UsageError(f"{path.name} is no name of a mesh", f"end it in .{', .'.join(KINDS)}")
    trimesh = _trimesh()
    cameras = at_most(cameras_of(scene), LONGEST)
    writable(scene)
    depths = rendered_depths(scene, cameras)
    volume = fused(depths, cameras, mesh_voxels)
    vertices, faces = triangles(volume)
    colors = vertex_colors(scene, cameras, vertices, depths, volume.truncation)
    surface = trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)
    if kind == "glb":
        turned = trimesh.Scene()
        turned.add_geometry(surface, transform=TURNED.astype(np.float64))
        surface = turned
    content = surface.export(file_type=kind)
    content = content.encode() if isinstance(content, str) else content
    with atomic_output(path, overwrite, len(content)) as file:
        file.write(content)


def rendered_depths(scene: Scene, cameras: Cameras) -> list[Float32[np.ndarray, "h w"]]:
    """What each camera sees: z-depth, 0 where the scene is not solid or at the edge of a thing."""
    from ffsplat.render import render

    depths = []
    for view in range(len(cameras)):
        depth = render(scene, cameras[[view]], "depth")[0]
        solid = render(scene, cameras[[view]], "opacity")[0] >= SOLID
        depths.append(np.where(solid & on_one_surface(depth), depth, 0).astype(np.float32))
    return depths


def fused(
    depths: list[Float32[np.ndarray, "h w"]], cameras: Cameras, mesh_voxels: int = 256
) -> Volume:
    """The volume of depth maps of these cameras; errors as `empty_volume`."""
    poses = camera_from_world(cameras)
    points = [_lift(d, *pair) for d, *pair in zip(depths, cameras.world_from_camera,
                                                   cameras.intrinsics, strict=True)]  # fmt: skip
    everything = np.concatenate(points)
    if not len(everything):
        raise UsageError("no camera sees anything solid", "are these the cameras of the scene?")
    volume = empty_volume(everything, mesh_voxels)
    for depth, pose, lens in zip(depths, poses, cameras.intrinsics, strict=True):
        integrate(volume, depth, pose.astype(np.float32), lens)
    return volume


def vertex_colors(
    scene: Scene,
    cameras: Cameras,
    vertices: Float32[np.ndarray, "vertices 3"],
    depths: list[Float32[np.ndarray, "h w"]],
    tolerance: float,
) -> Float32[np.ndarray, "vertices 3"]:
    """Mean colour in [0, 1] that the views which see a vertex show there; grey for one unseen."""
    from ffsplat.render import render

    total, count = np.zeros((len(vertices), 3), np.float32), np.zeros(len(vertices), np.float32)
    for view, (pose, depth) in enumerate(zip(camera_from_world(cameras), depths, strict=True)):
        image = render(scene, cameras[[view]], "rgb")[0]
        local = vertices @ pose[:3, :3].T + pose[:3, 3]
        pixels = pixels_of(local, cameras.intrinsics[view].astype(np.float64))
        height, width = depth.shape
        inside = np.all((pixels >= 0) & (pixels < [width, height]), axis=1)
        x, y = np.where(inside[:, None], pixels, 0).astype(np.int64).T
        seen = np.flatnonzero(inside & (np.abs(depth[y, x] - local[:, 2]) <= tolerance))
        total[seen] += image[y[seen], x[seen]]
        count[seen] += 1
    return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], np.float32(0.5))


def _lift(
    depth: Float32[np.ndarray, "h w"],
    pose: Float32[np.ndarray, "4 4"],
    lens: Float32[np.ndarray, "3 3"],
) -> Float32[np.ndarray, "n 3"]:
    """World points of the pixels that have depth."""
    rows: Int64[np.ndarray, " n"]
    rows, columns = np.nonzero(depth > 0)
    z = depth[rows, columns]
    across = (columns + np.float32(0.5) - lens[0, 2]) / lens[0, 0]
    down = (rows + np.float32(0.5) - lens[1, 2]) / lens[1, 1]
    local = np.stack([across * z, down * z, z], axis=1)
    return (local @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)


def _trimesh() -> Any:
    try:
        import trimesh
    except ImportError as error:
        raise UsageError(
            "meshes need trimesh, which is not installed", 'pip install "ffsplat[mesh]"'
        ) from error
    return trimesh
