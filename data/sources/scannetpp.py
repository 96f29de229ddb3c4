"""ScanNet++: iPhone and DSLR as published, and the layouts of LSM and SIU3R.

iPhone (scannetpp/scannetpp, common/scene_release.py; frames and depth extracted by its toolkit):
`iphone/rgb/frame_*.jpg`, `iphone/depth/frame_*.png` (millimetres, 256 x 192),
`iphone/pose_intrinsic_imu.json` with `aligned_pose` (world_from_camera, OpenCV axes) and
`intrinsic` a frame. ARKit counts pixels from the centre of the first. DSLR: photos undistorted by
the toolkit in `dslr/undistorted_images` or `dslr/resized_undistorted_images` with
`dslr/nerfstudio/transforms_undistorted.json` and perhaps `dslr/render_depth/*.png`; the fisheye
originals are refused. LSM: `dslr` or `iphone` with `rgb_resized_undistorted/*.JPG`,
`render_depth/*.png` (millimetres), and `camera/*.npz` with `intrinsic` and `extrinsic`, which is
world_from_camera.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.sources.files import find_scenes, image_size, pictures, pinhole
from data.sources.frame import Frame, SourceScene
from data.sources.nerfstudio import transform_frame, transform_items
from data.sources.processed import depth_beside, is_siu3r, npz_frame, read_siu3r
from ffsplat.errors import SceneFileError
from ffsplat.io.text import matrix, read_object

SPACE = "scannetpp"
PHONE = "pose_intrinsic_imu.json"
UNDISTORTED = "nerfstudio/transforms_undistorted.json"
PHOTOS = ("undistorted_images", "resized_undistorted_images")
NPZ = ("intrinsic", "extrinsic")
HINT = "undistort the fisheye photos first: python -m dslr.undistort_dslr of the ScanNet++ toolkit"


def find(folder: Path) -> list[Path]:
    """Folders of one camera of one scene (`<scene>/iphone`, `<scene>/dslr`), or SIU3R's scenes."""
    return find_scenes(folder, lambda path: _layout(path) is not None, depth=4)


def read(folder: Path) -> SourceScene:
    """Read what one camera saw of a scene; SceneFileError names what is wrong."""
    layout = _layout(folder)
    if layout is None:
        raise SceneFileError(f"{folder} is in none of the layouts of ScanNet++")
    return layout(folder)


def _layout(folder: Path) -> Callable[[Path], SourceScene] | None:
    """The reader whose files are there."""
    if (folder / "camera").is_dir() and (folder / "rgb_resized_undistorted").is_dir():
        return _read_lsm
    if (folder / PHONE).is_file():
        return _read_phone
    if (folder / "nerfstudio").is_dir():
        return _read_dslr
    return partial(read_siu3r, source="scannetpp") if is_siu3r(folder) else None


def _read_lsm(folder: Path) -> SourceScene:
    frames = tuple(
        npz_frame(photo, folder / f"camera/{photo.stem}.npz", _rendered(folder, photo), NPZ)
        for photo in pictures(folder / "rgb_resized_undistorted")
    )
    return _scene(folder, frames)


def _read_phone(folder: Path) -> SourceScene:
    cameras = read_object(folder / PHONE)
    frames, missing, size = [], 0, None
    for photo in pictures(folder / "rgb"):
        camera = cameras.get(photo.stem)
        if not isinstance(camera, dict) or "aligned_pose" not in camera:
            missing += 1
            continue
        where = f"{folder / PHONE}: {photo.stem}"
        size = size or image_size(photo)
        k = matrix(camera.get("intrinsic"), 3, 3, where)
        frame = Frame(
            name=photo.stem,
            image=photo,
            size=size,
            intrinsics=pinhole(k[0, 0], k[1, 1], k[0, 2], k[1, 2], where, integer_centres=True),
            world_from_camera=matrix(camera["aligned_pose"], 4, 4, where),
            depth=depth_beside(folder / f"depth/{photo.stem}.png"),
        )
        frames.append(frame)
    notes = (f"{missing} photos have no aligned pose",) if missing else ()
    return _scene(folder, tuple(frames), notes)


def _read_dslr(folder: Path) -> SourceScene:
    photos = next((folder / name for name in PHOTOS if (folder / name).is_dir()), None)
    if photos is None or not (folder / UNDISTORTED).is_file():
        raise SceneFileError(f"{folder} has no undistorted photos", HINT)
    content = read_object(folder / UNDISTORTED)
    items = transform_items(folder, content)
    if isinstance(content.get("test_frames"), list):
        items += transform_items(folder, {"frames": content["test_frames"]})
    read = (transform_frame(photos, content, item) for item in items)
    frames = tuple(replace(f, depth=depth_beside(_rendered(folder, f.image))) for f in read)
    return _scene(folder, frames)


def _rendered(folder: Path, photo: Path) -> Path:
    return folder / f"render_depth/{photo.stem}.png"


def _scene(folder: Path, frames: tuple[Frame, ...], notes: tuple[str, ...] = ()) -> SourceScene:
    name = f"{folder.parent.name}-{folder.name}"
    return SourceScene(name, "scannetpp", frames, True, label_space=SPACE, notes=notes)
