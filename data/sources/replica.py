"""Replica as rendered for NICE-SLAM, and with labels as rendered for Semantic-NeRF.

NICE-SLAM (cvg/nice-slam, src/utils/datasets.py, and its Replica.zip): `<scene>/results/frameN.jpg`
and `depthN.png`, `<scene>/traj.txt` with one row-major world_from_camera a line (OpenCV axes,
metres), and above the scenes `cam_params.json` with w, h, fx, fy, cx, cy and `scale`, the number of
depth values a metre; its cx = (w - 1) / 2 says that pixel centres are integers. Semantic-NeRF
(Harry-Zhi/semantic_nerf, as vMAP has it too): `Sequence_1/rgb/rgb_N.png`, `depth/depth_N.png`
(millimetres), `semantic_class/semantic_class_N.png`, `semantic_instance/semantic_instance_N.png`,
`traj_w_c.txt`; the field of view is 90 degrees across. Class names stand in Replica's own
`habitat/info_semantic.json`, searched beside the scene and above it.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.sources.files import checked_size, find_scenes, image_size, pictures, pinhole
from data.sources.frame import DepthMap, Frame, LabelMap, SourceScene
from ffsplat.errors import SceneFileError
from ffsplat.io.text import lines, matrix, numbers, read_object

SPACE = "replica"
CAMERA = "cam_params.json"
TRAJECTORY = "traj_w_c.txt"
CLASSES = ("info_semantic.json", "habitat/info_semantic.json")
ABOVE = 3


def find(folder: Path) -> list[Path]:
    """Folders in one of the two layouts."""
    return find_scenes(folder, lambda path: _is_slam(path) or (path / TRAJECTORY).is_file())


def read(folder: Path) -> SourceScene:
    """Read one trajectory; SceneFileError names what is wrong."""
    return _read_slam(folder) if _is_slam(folder) else _read_semantic(folder)


def _is_slam(folder: Path) -> bool:
    return (folder / "traj.txt").is_file() and (folder / "results").is_dir()


def _read_slam(folder: Path) -> SourceScene:
    path = _above(folder, (CAMERA,))
    if path is None:
        raise SceneFileError(f"{folder} has no {CAMERA}, nor has a folder above it")
    camera = read_object(path).get("camera")
    keys = ("fx", "fy", "cx", "cy", "scale")
    if not isinstance(camera, dict) or not all(type(camera.get(k)) in (int, float) for k in keys):
        raise SceneFileError(f"{path} does not describe a camera")
    fx, fy, cx, cy, scale = (float(camera[key]) for key in keys)
    if not scale > 0:
        raise SceneFileError(f"{path} has the depth scale {scale}")
    size = checked_size(camera.get("w"), camera.get("h"), path)
    intrinsics = pinhole(fx, fy, cx, cy, path, integer_centres=True)
    photos = [p for p in pictures(folder / "results") if p.name.startswith("frame")]
    frames = []
    for photo, pose in _posed(photos, folder / "traj.txt"):
        depth = photo.with_name(f"depth{photo.stem.removeprefix('frame')}.png")
        known = DepthMap(depth, 1 / scale) if depth.exists() else None
        frames.append(Frame(photo.stem, photo, size, intrinsics, pose, depth=known))
    return SourceScene(folder.name, "replica", tuple(frames), metric=True)


def _read_semantic(folder: Path) -> SourceScene:
    names = _class_names(folder)
    frames, size = [], None
    for photo, pose in _posed(pictures(folder / "rgb"), folder / TRAJECTORY):
        size = size or image_size(photo)
        focal = size[0] / 2  # 90 degrees across, square pixels
        middle = (size[0] / 2, size[1] / 2)
        number = photo.stem.removeprefix("rgb_")
        depth = folder / f"depth/depth_{number}.png"
        label = folder / f"semantic_class/semantic_class_{number}.png"
        objects = folder / f"semantic_instance/semantic_instance_{number}.png"
        known = label.exists() and bool(names)
        frames.append(
            Frame(
                name=photo.stem,
                image=photo,
                size=size,
                intrinsics=pinhole(focal, focal, *middle, folder, integer_centres=False),
                world_from_camera=pose,
                depth=DepthMap(depth, 0.001) if depth.exists() else None,
                labels=LabelMap(label) if known else None,
                instances=objects if known and objects.exists() else None,
            )
        )
    unnamed = (folder / "semantic_class").is_dir() and not names
    notes = ("labels are not used: no info_semantic.json beside or above",) if unnamed else ()
    name = f"{folder.parent.name}-{folder.name}"
    return SourceScene(name, "replica", tuple(frames), True, names, SPACE, notes=notes)


def _posed(photos: list[Path], path: Path) -> list[tuple[Path, np.ndarray]]:
    poses = [matrix(numbers(words, path), 4, 4, path) for words in lines(path)]
    if len(poses) < len(photos):
        raise SceneFileError(f"{path} has {len(poses)} poses for {len(photos)} photos")
    return list(zip(photos, poses[: len(photos)], strict=True))


def _class_names(folder: Path) -> Mapping[int, str]:
    path = _above(folder, CLASSES)
    if path is None:
        return {}
    match read_object(path):
        case {"classes": [*classes]}:
            pairs = [(c.get("id"), c.get("name")) for c in classes if isinstance(c, dict)]
            return {n: name for n, name in pairs if type(n) is int and isinstance(name, str)}
        case _:
            raise SceneFileError(f"{path} lists no classes")


def _above(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first of the files that lies in a folder or above it."""
    places = [folder.absolute(), *folder.absolute().parents][: ABOVE + 1]
    return next((p / name for p in places for name in names if (p / name).is_file()), None)
