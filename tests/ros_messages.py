"""Messages as a driver would send them, for tests."""

import numpy as np

from ffsplat.hits import Hit
from ffsplat.stream.ros.store import make


def header(time_ns: int = 0, frame: str = "camera"):
    stamp = make("builtin_interfaces/msg/Time", sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def image(data, height, width, encoding="rgb8", step=None, big=False, time_ns=0, frame="camera"):
    data = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
    return make(
        "sensor_msgs/msg/Image",
        header=header(time_ns, frame),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big),
        step=len(data) // max(height, 1) if step is None else step,
        data=data,
    )


def compressed(data: bytes, kind="jpeg", time_ns=0, frame="camera"):
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=header(time_ns, frame),
        format=kind,
        data=np.frombuffer(data, np.uint8),
    )


def camera_info(k, width, height, d=(), p=None, binning=(0, 0), roi=(0, 0, 0, 0), time_ns=0):
    x, y, w, h = roi
    region = make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=x,
        y_offset=y,
        width=w,
        height=h,
        do_rectify=False,
    )
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=header(time_ns),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.array(d, np.float64),
        k=np.array(k, np.float64).reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.zeros(12) if p is None else np.array(p, np.float64).reshape(-1),
        binning_x=binning[0],
        binning_y=binning[1],
        roi=region,
    )


def transform(parent, child, time_ns, xyz=(0, 0, 0), xyzw=(0, 0, 0, 1)):
    vector = make("geometry_msgs/msg/Vector3", **dict(zip("xyz", map(float, xyz), strict=True)))
    turn = make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, xyzw), strict=True)))
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=header(time_ns, parent),
        child_frame_id=child,
        transform=make("geometry_msgs/msg/Transform", translation=vector, rotation=turn),
    )


def tf(*transforms):
    return make("tf2_msgs/msg/TFMessage", transforms=list(transforms))


def hit(name="red chair", low=(0, 0, 2), high=(1, 2, 4)):
    low, high = np.array(low, np.float32), np.array(high, np.float32)
    return Hit(name, 3, 0.75, 5, (low + high) / 2, low, high, np.arange(5))
