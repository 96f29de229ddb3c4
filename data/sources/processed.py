"""Layouts that published networks were trained on, shared by several sources.

SIU3R (WU-CVGL/SIU3R, README.md and src/data/components/scannet_dataset.py): `color/*.jpg|png`,
`depth/*.png` (millimetres), `extrinsic/*.txt` (world_from_camera), one `intrinsic.txt` in pixels,
`panoptic/*.png` with class * 1000 + object over the 20 classes of the ScanNet benchmark. Its
network divides the intrinsics by the size of the picture and takes 0.5 for the middle, so pixel
centres are half-integers. LSM (NVlabs/LSM, data_process/data.md, large_spatial_model/datasets): one
.npz a frame with intrinsics in pixels of integer centres and world_from_camera; depth in
millimetres. All axes are OpenCV's.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from data.sources.files import image_size, pictures, pinhole, read_arrays, read_matrix, read_square
from data.sources.frame import DepthMap, Frame, LabelMap, SourceScene
from data.sources.labels import label_ids
from ffsplat.errors import SceneFileError
from ffsplat.io.text import matrix

MILLIMETRE = 0.001
OBJECTS = 1000
SIU3R_SPACE = "scannet20"


def is_siu3r(folder: Path) -> bool:
    """Whether a folder is one scene in SIU3R's layout."""
    return (folder / "intrinsic.txt").is_file() and (folder / "extrinsic").is_dir()


def read_siu3r(folder: Path, source: str) -> SourceScene:
    """One scene in SIU3R's layout."""
    intrinsics = square_intrinsics(folder / "intrinsic.txt", integer_centres=False)
    frames = []
    for photo in pictures(folder / "color"):
        pose = folder / f"extrinsic/{photo.stem}.txt"
        panoptic = folder / f"panoptic/{photo.stem}.png"
        frames.append(
            Frame(
                name=photo.stem,
                image=photo,
                size=image_size(photo),
                intrinsics=intrinsics,
                world_from_camera=read_matrix(pose, 4, 4),
                depth=depth_beside(folder / f"depth/{photo.stem}.png"),
                labels=LabelMap(panoptic, OBJECTS) if panoptic.exists() else None,
            )
        )
    names = label_ids(SIU3R_SPACE)
    return SourceScene(folder.name, source, tuple(frames), True, names, SIU3R_SPACE)


def npz_frame(photo: Path, camera: Path, depth: Path, names: tuple[str, str]) -> Frame:
    """One frame in LSM's layout; `names` are those of intrinsics and pose in the .npz file."""
    k, pose = read_arrays(camera, names)
    k = matrix(k, 3, 3, camera)
    lens = pinhole(k[0, 0], k[1, 1], k[0, 2], k[1, 2], camera, integer_centres=True)
    size = image_size(photo)
    return Frame(
        photo.stem, photo, size, lens, matrix(pose, 4, 4, camera), depth=depth_beside(depth)
    )


def depth_beside(path: Path) -> DepthMap | None:
    """A map of millimetres, None if the file is absent."""
    return DepthMap(path, MILLIMETRE) if path.exists() else None


def square_intrinsics(path: Path, *, integer_centres: bool) -> Float64[np.ndarray, "3 3"]:
    """Intrinsics from a text file of 3x3 or 4x4 numbers."""
    k = read_square(path)
    if k.shape not in ((3, 3), (4, 4)):
        raise SceneFileError(f"{path} holds neither 3 x 3 nor 4 x 4 numbers")
    return pinhole(k[0, 0], k[1, 1], k[0, 2], k[1, 2], path, integer_centres=integer_centres)
