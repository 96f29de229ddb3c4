"""7-Scenes: `frame-XXXXXX.color.png`, `.depth.png` and `.pose.txt` in folders `seq-XX`.

Layout (the data set's page, as read by nianticlabs/simplerecon): poses are world_from_camera with
OpenCV axes, in metres; depth is 16-bit PNG in millimetres, 65535 where it is invalid; focal length
585 and principal point (320, 240) at 640 x 480, taken as the middle of the picture. These numbers
are stated for both pictures although colour and depth are not registered to each other; expect
errors of a few pixels at the edges.
"""

from pathlib import Path

from data.sources.files import find_scenes, pinhole, read_matrix
from data.sources.frame import DepthMap, Frame, SourceScene

SIZE = (640, 480)
FOCAL = 585.0
INVALID = 65535


def find(folder: Path) -> list[Path]:
    """Folders with colour frames."""
    return find_scenes(folder, lambda path: next(path.glob("frame-*.color.png"), None) is not None)


def read(folder: Path) -> SourceScene:
    """Read one sequence; photos without a pose are left out and counted."""
    intrinsics = pinhole(FOCAL, FOCAL, 320.0, 240.0, folder, integer_centres=False)
    photos = sorted(folder.glob("frame-*.color.png"))
    frames = []
    for photo in photos:
        name = photo.name.removesuffix(".color.png")
        pose, depth = folder / f"{name}.pose.txt", folder / f"{name}.depth.png"
        if pose.exists():
            known = DepthMap(depth, 0.001, INVALID) if depth.exists() else None
            matrix = read_matrix(pose, 4, 4)
            frames.append(Frame(name, photo, SIZE, intrinsics, matrix, depth=known))
    missing = len(photos) - len(frames)
    notes = (f"{missing} photos have no pose",) if missing else ()
    name = f"{folder.parent.name}-{folder.name}"
    return SourceScene(name, "seven_scenes", tuple(frames), metric=True, notes=notes)
