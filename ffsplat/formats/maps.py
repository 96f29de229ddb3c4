"""One map a view: depth, normals, or features in a text space, in a folder with a `maps.json`.

Depth is written as `ffsplat.io.depth` has it (16-bit PNG, thousandths of a metre for a room in
metres). Normals and features are float16 `.npy`, h x w x channels. Features are linear in the
codes: a Gaussian has W S, its weights times the codebook's rows, and a pixel has what these blend
to, neither scaled nor completed by a background, as LangSplat renders its own (Qin et al., 2024,
section 3.3). A text's score of a pixel is thus its inner product with the pixel's features.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32
from PIL import Image

from ffsplat.codes import score
from ffsplat.errors import UsageError
from ffsplat.formats.cameras import cameras_of, scaled
from ffsplat.formats.packing import writable
from ffsplat.io.depth import write_depth
from ffsplat.io.folder import atomic_folder, check_folder
from ffsplat.types import Cameras, Codebook, Scene

INDEX = "maps.json"
FORMAT = "ffsplat.maps 1"

CHANNELS = 64
"""Channels of features that are blended at a time: memory does not grow with the space."""

_log = logging.getLogger(__name__)


def write(
    scene: Scene,
    path: str | Path,
    *,
    overwrite: bool = False,
    maps: str = "depth",
    map_scale: float = 1.0,
    space: str = "",
    max_gigabytes: float = 8.0,
) -> None:
    """Write the folder `path` of one kind of `maps` ("depth", "normals", "features") of all views.

    `map_scale` is the size of a map in sizes of its camera. Features are those of `space`, the
    codebook's first one by default. Raises UsageError without cameras, for a scene without codes
    or such a space, and for maps larger than `max_gigabytes`; OutputError as `atomic_folder` and
    `writable`.
    """
    cameras = scaled(cameras_of(scene), map_scale)
    writable(scene)
    match maps:
        case "depth":
            _check_size(cameras, maps, 1, 4, max_gigabytes)
            _write_depth(scene, Path(path), cameras, overwrite)
        case "normals":
            _check_size(cameras, maps, 3, 3, max_gigabytes)
            _write_normals(scene, Path(path), cameras, overwrite)
        case "features":
            name, rows = rows_of(scene, space)[1:]
            size = _check_size(cameras, maps, rows.shape[1], 2, max_gigabytes)
            _write_features(scene, Path(path), cameras, overwrite, name, rows, size)
        case _:
            raise UsageError(f"there are no maps {maps!r}", "depth, normals or features")


def feature_maps(
    scene: Scene, cameras: Cameras, rows: Float32[np.ndarray, "rows d"]
) -> Iterator[Iterator[tuple[slice, Float32[np.ndarray, "h w c"]]]]:
    """For each view, the blended features of all Gaussians, CHANNELS of the d columns at a time.

    `rows` is the codebook in some space. The scene must have codes.
    """
    import torch

    from ffsplat.render import rasterize

    gaussians, code = scene.gaussians, scene.codes
    if code is None:
        raise UsageError("the scene has no codes, so its Gaussians have no features")
    geometry = (
        torch.from_numpy(gaussians.means),
        torch.from_numpy(gaussians.quaternions_wxyz),
        torch.from_numpy(gaussians.scales),
        torch.from_numpy(gaussians.opacities_of_meaning),
    )

    def view(index: int) -> Iterator[tuple[slice, Float32[np.ndarray, "h w c"]]]:
        width, height = (int(side) for side in cameras.sizes[index])
        pose, lens = cameras.world_from_camera[[index]], cameras.intrinsics[[index]]
        posed = torch.from_numpy(pose), torch.from_numpy(lens), width, height
        for start in range(0, rows.shape[1], CHANNELS):
            columns = slice(start, min(start + CHANNELS, rows.shape[1]))
            features = torch.from_numpy(score(code, rows[:, columns]))
            with torch.no_grad():
                yield columns, rasterize(*geometry, features, *posed).features[0].numpy()

    return (view(index) for index in range(len(cameras)))


def normal_map(
    depth: Float32[np.ndarray, "h w"], intrinsics: Float32[np.ndarray, "3 3"]
) -> Float32[np.ndarray, "h w 3"]:
    """Unit normals of the surface of a depth map, towards the camera and in its frame.

    0 where there is no depth. The surface's steps from pixel to pixel are those of
    `ffsplat.geometric.surface_steps`, which does not step over edges
    nor climb more than MAX_SLOPE.
    """
    import torch

    from ffsplat.geometric import surface_steps

    seen = depth > 0
    safe = torch.from_numpy(np.where(seen, depth, 1))
    across, down = surface_steps(safe, torch.from_numpy(intrinsics), torch.from_numpy(seen))
    normal = torch.nn.functional.normalize(torch.linalg.cross(down, across), dim=-1).numpy()
    return np.where(seen[..., None], normal, 0).astype(np.float32)


def _write_depth(scene: Scene, path: Path, cameras: Cameras, overwrite: bool) -> None:
    from ffsplat.render import render

    depth = [render(scene, cameras[[view]], "depth")[0] for view in range(len(cameras))]
    write_depth(depth, cameras.names, path, metric=scene.metric, overwrite=overwrite)


def _write_normals(scene: Scene, path: Path, cameras: Cameras, overwrite: bool) -> None:
    from ffsplat.render import render

    files = [(f"{view:04d}.npy", f"{view:04d}.png") for view in range(len(cameras))]
    index = _index(cameras, "normals", [array for array, _ in files])
    index["axes"] = "camera frame, OpenCV: x right, y down, z forward; 0 0 0 where nothing is"
    index["pictures"] = "8-bit PNG of (normal + 1) / 2"
    names = [name for pair in files for name in pair]
    with atomic_folder(path, [*names, INDEX], overwrite) as folder:
        for view, (array, picture) in enumerate(files):
            depth = render(scene, cameras[[view]], "depth")[0]
            normal = normal_map(depth, cameras.intrinsics[view])
            np.save(folder / array, normal.astype(np.float16), allow_pickle=False)
            content = np.rint(127.5 * (normal + 1)).astype(np.uint8)
            Image.fromarray(content).save(folder / picture, "PNG")
        _write_index(folder, index)


def _check_size(cameras: Cameras, kind: str, channels: int, wide: int, limit: float) -> int:
    """Bytes that maps of so many numbers of so many bytes take; UsageError if over `limit` GB."""
    size = channels * wide * int(cameras.sizes.astype(np.int64).prod(axis=1).sum())
    facts = f"{len(cameras)} maps of {kind} ({channels} a pixel) need {size / 1e9:.3g} GB"
    if not size <= limit * 1e9:  # NaN is no limit
        raise UsageError(
            f"{facts}, more than {limit:g}", "raise --max-gigabytes, or lower --map-scale"
        )
    _log.info("%s", facts)
    return size


def _write_features(
    scene: Scene,
    path: Path,
    cameras: Cameras,
    overwrite: bool,
    name: str,
    rows: Float32[np.ndarray, "rows d"],
    size: int,
) -> None:
    files = [f"{view:04d}.npy" for view in range(len(cameras))]
    check_folder(path, [*files, INDEX], overwrite)
    with atomic_folder(path, [*files, INDEX], overwrite, size) as folder:
        views = feature_maps(scene, cameras, rows)
        for file, view, (width, height) in zip(files, views, cameras.sizes.tolist(), strict=True):
            shape = height, width, rows.shape[1]
            target: Float16[np.ndarray, "h w d"] = np.lib.format.open_memmap(
                folder / file, "w+", np.dtype(np.float16), shape
            )
            for columns, block in view:
                target[..., columns] = block
            del target  # closes the map, which writes what is left
        _write_index(folder, {**_index(cameras, "features", files), "space": name})


def rows_of(scene: Scene, space: str = "") -> tuple[Codebook, str, Float32[np.ndarray, "rows d"]]:
    """The scene's codebook, the name of a space of it, the first one for "", and its rows there.

    Raises UsageError for a scene without codes, without a codebook, or without that space.
    """
    if scene.codebook is None or scene.codes is None:
        raise UsageError(
            "the scene has no codes or no codebook",
            "keep the .codebook.safetensors file beside the PLY",
        )
    spaces = scene.codebook.spaces
    name = space or next(iter(spaces))
    if name not in spaces:
        raise UsageError(f"the codebook has no space {name!r}", f"it has {', '.join(spaces)}")
    return scene.codebook, name, spaces[name].astype(np.float32)


def _index(cameras: Cameras, kind: str, files: list[str]) -> dict[str, object]:
    views = zip(cameras.names, files, cameras.sizes.tolist(), strict=True)
    listed = [
        {"name": name, "file": file, "width": width, "height": height}
        for name, file, (width, height) in views
    ]
    return {"format": FORMAT, "maps": kind, "views": listed}


def _write_index(folder: Path, content: dict[str, object]) -> None:
    (folder / INDEX).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
