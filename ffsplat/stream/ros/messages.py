"""Messages of ROS made from what a stream has: pictures, cameras, trajectory, hits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8

from ffsplat.hits import Hit
from ffsplat.stream.delta import MapDelta
from ffsplat.stream.replica.scene import matrices
from ffsplat.stream.ros.frames import quaternions_of
from ffsplat.stream.ros.store import (
    BYTES,
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    MARKERS,
    PATH,
    TF,
    make,
)

MAX_POSES = 2000
MAX_HITS = 1000

_CUBE, _TEXT, _ADD, _DELETE_ALL = 1, 9, 0, 3
_THIN = 1e-3  # RViz draws nothing that has no thickness
_HIT_COLOR = (1.0, 0.6, 0.0, 0.35)
_TEXT_COLOR = (1.0, 1.0, 1.0, 1.0)


def time_of(time_ns: int) -> Any:
    """A builtin_interfaces/Time; what it cannot hold becomes the nearest that it can."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    seconds = min(max(seconds, -(2**31)), 2**31 - 1)
    return make("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)


def header(frame: str, time_ns: int) -> Any:
    """A std_msgs/Header. A stamp of 0 says in ROS that there is none: 0 is written as 1 ns."""
    return make("std_msgs/msg/Header", stamp=time_of(time_ns or 1), frame_id=frame)


def compressed_image(picture: bytes, frame: str, time_ns: int) -> Any:
    """A sensor_msgs/CompressedImage of a JPEG, PNG or WebP."""
    kind = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"RI": "webp"}.get(picture[:2], "")
    data = np.frombuffer(picture, np.uint8)
    return make(COMPRESSED_IMAGE, header=header(frame, time_ns), format=kind, data=data)


def image(pixels: UInt8[np.ndarray, "h w 3"], frame: str, time_ns: int) -> Any:
    """A sensor_msgs/Image, rgb8 without padding."""
    height, width, _ = pixels.shape
    return make(
        IMAGE,
        header=header(frame, time_ns),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def camera_info(
    intrinsics: Float[np.ndarray, "3 3"], width: int, height: int, frame: str, time_ns: int
) -> Any:
    """A sensor_msgs/CameraInfo of a pinhole camera: ROS counts from the centre of a pixel."""
    k = intrinsics.astype(np.float64).copy()
    k[:2, 2] -= 0.5
    whole = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    return make(
        CAMERA_INFO,
        header=header(frame, time_ns),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.hstack([k, np.zeros((3, 1))]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=make("sensor_msgs/msg/RegionOfInterest", **whole),
    )


def transform(
    parent: str, child: str, parent_from_child: Float64[np.ndarray, "4 4"], time_ns: int
) -> Any:
    """A geometry_msgs/TransformStamped of a rigid pose."""
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=header(parent, time_ns),
        child_frame_id=child,
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=_xyz("Vector3", parent_from_child[:3, 3]),
            rotation=_quaternion(quaternions_of(parent_from_child[None, :3, :3])[0]),
        ),
    )


def transforms(stamped: Sequence[Any]) -> Any:
    """A tf2_msgs/TFMessage."""
    return make(TF, transforms=list(stamped))


def path(snapshot: MapDelta, map_from_world: Float64[np.ndarray, "4 4"], frame: str) -> Any:
    """A nav_msgs/Path of the cameras of a snapshot, of MAX_POSES evenly chosen ones at most."""
    times, poses = camera_poses(snapshot, map_from_world)
    if len(times) > MAX_POSES:
        chosen = np.linspace(0, len(times) - 1, MAX_POSES).round().astype(np.int64)
        times, poses = times[chosen], poses[chosen]
    stamped = [
        make("geometry_msgs/msg/PoseStamped", header=header(frame, time_ns), pose=pose)
        for time_ns, pose in zip(times.tolist(), _poses(poses), strict=True)
    ]
    return make(PATH, header=header(frame, snapshot.time_ns), poses=stamped)


def camera_poses(
    snapshot: MapDelta, map_from_world: Float64[np.ndarray, "4 4"]
) -> tuple[Int64[np.ndarray, " c"], Float64[np.ndarray, "c 4 4"]]:
    """Times, and map_from_camera poses, of the frames of a snapshot."""
    frames = snapshot.frames
    submaps = snapshot.submap_poses[np.searchsorted(snapshot.submaps, frames.submaps)]
    turns = matrices(submaps[:, 1:5])
    world_from_camera = np.tile(np.eye(4), (len(frames), 1, 1))
    world_from_camera[:, :3, :3] = turns @ matrices(frames.poses[:, :4])
    centres = np.einsum("nij,nj->ni", turns, frames.poses[:, 4:])
    world_from_camera[:, :3, 3] = submaps[:, :1] * centres + submaps[:, 5:]
    return frames.times_ns, map_from_world @ world_from_camera


def markers(
    hits: Sequence[Hit], map_from_world: Float64[np.ndarray, "4 4"], frame: str, time_ns: int
) -> Any:
    """A visualization_msgs/MarkerArray: what was there before goes; a box and a text for each hit.

    A box keeps the axes of the map's world, in which it is the smallest. Text stands above it.
    """
    made = [_marker(frame, time_ns, 0, _CUBE, _DELETE_ALL, np.eye(4), np.ones(3), _HIT_COLOR)]
    for i, hit in enumerate(hits[:MAX_HITS]):
        size = np.maximum(hit.maximum.astype(np.float64) - hit.minimum, _THIN)
        pose = map_from_world.copy()
        middle = (hit.minimum.astype(np.float64) + hit.maximum) / 2
        pose[:3, 3] = map_from_world[:3, :3] @ middle + map_from_world[:3, 3]
        made.append(_marker(frame, time_ns, 2 * i, _CUBE, _ADD, pose, size, _HIT_COLOR))
        above, letters = np.eye(4), size.max() / 10
        above[:3, 3] = pose[:3, 3]
        above[2, 3] += np.abs(map_from_world[2, :3]) @ size / 2 + letters
        text = f"{hit.name} {hit.score:.2f}"
        scale = np.array([0.0, 0.0, letters])
        made.append(
            _marker(frame, time_ns, 2 * i + 1, _TEXT, _ADD, above, scale, _TEXT_COLOR, text)
        )
    return make(MARKERS, markers=made)


def byte_array(data: bytes) -> Any:
    """A std_msgs/UInt8MultiArray of one dimension."""
    layout = make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
    return make(BYTES, layout=layout, data=np.frombuffer(data, np.uint8))


def _marker(
    frame: str,
    time_ns: int,
    number: int,
    kind: int,
    action: int,
    pose: Float64[np.ndarray, "4 4"],
    size: Float64[np.ndarray, "3"],
    color: tuple[float, float, float, float],
    text: str = "",
) -> Any:
    never = make("builtin_interfaces/msg/Duration", sec=0, nanosec=0)
    nothing = compressed_image(b"", "", 0)
    return make(
        "visualization_msgs/msg/Marker",
        header=header(frame, time_ns),
        ns="ffsplat",
        id=number,
        type=kind,
        action=action,
        pose=_poses(pose[None])[0],
        scale=_xyz("Vector3", size),
        color=make("std_msgs/msg/ColorRGBA", **dict(zip("rgba", color, strict=True))),
        lifetime=never,
        frame_locked=False,
        points=[],
        colors=[],
        texture_resource="",
        texture=nothing,
        uv_coordinates=[],
        text=text,
        mesh_resource="",
        mesh_file=make("visualization_msgs/msg/MeshFile", filename="", data=np.zeros(0, np.uint8)),
        mesh_use_embedded_materials=False,
    )


def _poses(poses: Float64[np.ndarray, "n 4 4"]) -> list[Any]:
    turns = quaternions_of(poses[:, :3, :3])
    return [
        make("geometry_msgs/msg/Pose", position=_xyz("Point", where), orientation=_quaternion(turn))
        for where, turn in zip(poses[:, :3, 3], turns, strict=True)
    ]


def _quaternion(xyzw: Float64[np.ndarray, "4"]) -> Any:
    x, y, z, w = xyzw.tolist()
    return make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def _xyz(kind: str, values: Float64[np.ndarray, "3"]) -> Any:
    x, y, z = values.tolist()
    return make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)
