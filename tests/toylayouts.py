"""The toy world written in published layouts, for more tests than that of their reader."""

import json
import struct
from pathlib import Path

import numpy as np
import toyworld as toy
from scipy.spatial.transform import Rotation


def write_folder(path: Path, views: list[toy.ToyView]) -> dict:
    frames = []
    for index, view in enumerate(views):
        toy.save_image(path / f"images/{index}.png", view.image)
        toy.save_depth(path / f"depth/{index}.png", view.depth, 1e-4)
        toy.save_map(path / f"labels/{index}.png", view.labels)
        k = toy.INTRINSICS - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        frames.append(
            {
                "image": f"images/{index}.png",
                "depth": f"depth/{index}.png",
                "label": f"labels/{index}.png",
                "width": toy.SIZE[0],
                "height": toy.SIZE[1],
                "K": k.tolist(),
                "cam_to_world": view.pose.tolist(),
            }
        )
    names = {str(number): name for number, name in toy.WALL_NAMES.items()}
    content = {"depth_scale": 1e-4, "label_names": names, "frames": frames}
    save_cameras(path, content)
    return content


def save_cameras(path: Path, content: dict) -> None:
    (path / "cameras.json").write_text(json.dumps(content))


_PINHOLE = (61.0, 58.0, 38.2, 31.7)


def _camera_from_world(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inverse = np.linalg.inv(pose)
    x, y, z, w = Rotation.from_matrix(inverse[:3, :3]).as_quat()
    return np.array([w, x, y, z]), inverse[:3, 3]


def sparse_points(views: list[toy.ToyView]) -> tuple[np.ndarray, list[np.ndarray]]:
    """50 world points on the box and, per view, which of them its frustum holds."""
    half = toy.HALF.numpy()
    world = np.random.default_rng(0).uniform(-1, 1, (50, 3)) * half
    world[:, 2] = half[2]
    seen = []
    for view in views:
        local = (world - view.pose[:3, 3]) @ view.pose[:3, :3]
        pixel = local @ toy.INTRINSICS.T
        pixel = pixel[:, :2] / pixel[:, 2:]
        seen.append(np.flatnonzero(((pixel > 0) & (pixel < toy.SIZE)).all(1) & (local[:, 2] > 0)))
    return world, seen


def write_photos(folder: Path, views: list[toy.ToyView]) -> None:
    for index, view in enumerate(views):
        toy.save_image(folder / f"images/{index}.png", view.image)


def write_colmap(folder: Path, views: list[toy.ToyView]) -> None:
    """Camera 7; point i has the number 100 + 3 i; each image sees one keypoint without a point."""
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    write_photos(folder, views)
    camera = struct.pack("<QIiQQ4d", 1, 7, 1, *toy.SIZE, *_PINHOLE)
    (model / "cameras.bin").write_bytes(camera)
    world, seen = sparse_points(views)
    images = struct.pack("<Q", len(views))
    for index, (view, rows) in enumerate(zip(views, seen, strict=True)):
        quaternion, translation = _camera_from_world(view.pose)
        images += struct.pack("<I7dI", index + 1, *quaternion, *translation, 7)
        images += f"{index}.png".encode() + b"\0" + struct.pack("<Q", len(rows) + 1)
        images += struct.pack("<2dq", 1, 2, -1)
        for row in rows:
            images += struct.pack("<2dq", 3, 4, 100 + 3 * row)
    (model / "images.bin").write_bytes(images)
    points = struct.pack("<Q", len(world))
    for row in reversed(range(len(world))):
        points += struct.pack("<Q3d3Bd", 100 + 3 * row, *world[row], 1, 2, 3, 0.5)
        points += struct.pack("<Q2I", 1, 1, 0)
    (model / "points3D.bin").write_bytes(points)


def write_colmap_text(folder: Path, views: list[toy.ToyView], camera: str) -> None:
    write_photos(folder, views)
    model = folder / "sparse"
    model.mkdir()
    (model / "cameras.txt").write_text(f"# one camera\n7 {camera}\n")
    world, seen = sparse_points(views)
    rows = ["# images"]
    for index, (view, points) in enumerate(zip(views, seen, strict=True)):
        quaternion, translation = _camera_from_world(view.pose)
        pose = " ".join(f"{value:.12f}" for value in (*quaternion, *translation))
        rows.append(f"{index + 1} {pose} 7 {index}.png")
        rows.append("" if index == 0 else " ".join(f"1.5 2.5 {100 + 3 * row}" for row in points))
    (model / "images.txt").write_text("\n".join(rows) + "\n")
    listed = [f"{100 + 3 * row} {x} {y} {z} 1 2 3 0.5 1 0" for row, (x, y, z) in enumerate(world)]
    (model / "points3D.txt").write_text("\n".join(listed) + "\n")


HALF = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
K = toy.INTRINSICS - HALF
"""The toy's intrinsics for pixels with integer centres."""
DEPTH_K = np.array([[45.0, 0, 31.0], [0, 44.0, 26.0], [0, 0, 1]])
RAW = {1: "wall", 22: "office chair", 3: "zeppelin", 9: "Flooring", 300: "couch", 5: "bed"}
WHOLE = {1: "wall", 2: "office chair", 3: "otherprop", 4: "Flooring", 5: "couch", 6: "bed"}


def save_matrix(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(f"{v:.9f}" for v in row) for row in values) + "\n")


def padded(k: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = k
    return matrix


def raw_ids(labels: np.ndarray) -> np.ndarray:
    return np.array([0, *RAW])[labels]


def write_scannet_table(folder: Path) -> None:
    rows = ["id\traw_category\tcategory\tnyu40id\tnyu40class"]
    rows += [f"{number}\t{name}\tx\t40\totherprop" for number, name in RAW.items()]
    (folder / "scannetv2-labels.combined.tsv").write_text("\n".join(rows) + "\n")


def write_scannet(folder: Path) -> None:
    for index, view in enumerate(toy.views()):
        toy.save_image(folder / f"color/{index}.jpg", view.image)
        own = toy.trace(view.pose, DEPTH_K + HALF, (64, 52))
        toy.save_depth(folder / f"depth/{index}.png", own.depth, 0.001)
        toy.save_map(folder / f"label-filt/{index}.png", raw_ids(view.labels))
        toy.save_map(folder / f"instance-filt/{index}.png", view.labels)
        save_matrix(folder / f"pose/{index}.txt", view.pose)
    save_matrix(folder / "intrinsic/intrinsic_color.txt", padded(K))
    save_matrix(folder / "intrinsic/intrinsic_depth.txt", padded(DEPTH_K))
