"""A map as a cloud of points, for RViz, PCL and costmaps."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.replica.scene import matrices
from ffsplat.stream.ros.messages import header
from ffsplat.stream.ros.store import POINTS, make

_FIELDS = (
    ("x", "<f4"),
    ("y", "<f4"),
    ("z", "<f4"),
    ("rgb", "<f4"),  # 0x00RRGGBB in the bits of a float, as PCL and RViz have it
    ("opacity", "<f4"),
    ("cb_id", "<i4"),  # codebook row of the largest weight, -1 none
    ("instance", "<i4"),  # -1 none
)

POINT = np.dtype(list(_FIELDS))
"""A point of a cloud: 28 bytes, little endian, without gaps."""

MAX_POINTS = 2_000_000

_FIELD_TYPES = {"<i4": 5, "<f4": 7}  # PointField.INT32, FLOAT32


def points(snapshot: MapDelta, map_from_world: Float64[np.ndarray, "4 4"]) -> np.ndarray:
    """The Gaussians of a snapshot as points (of `POINT`) in the map frame, MAX_POINTS at most."""
    splats = snapshot.splats
    if len(splats) > MAX_POINTS:
        splats = splats[np.linspace(0, len(splats) - 1, MAX_POINTS).round().astype(np.int64)]
    place = np.searchsorted(snapshot.submaps, splats.submaps)
    poses = snapshot.submap_poses
    turn = map_from_world[:3, :3]
    linear = turn @ matrices(poses[:, 1:5]) * poses[:, :1, None]
    offset = poses[:, 5:] @ turn.T + map_from_world[:3, 3]
    means = np.einsum("nij,nj->ni", linear.astype(np.float32)[place], splats.means)
    means += offset.astype(np.float32)[place]
    out = np.empty(len(splats), POINT)
    out["x"], out["y"], out["z"] = means.T
    red, green, blue = splats.colors.astype(np.uint32).T
    out["rgb"] = (red << 16 | green << 8 | blue).view(np.float32)
    out["opacity"] = splats.opacities / np.float32(255)
    heaviest = splats.weights.argmax(axis=1)[:, None]
    out["cb_id"] = np.take_along_axis(splats.ids, heaviest, axis=1)[:, 0]
    out["instance"] = splats.instances
    return out


def point_cloud(rows: np.ndarray, frame: str, time_ns: int) -> Any:
    """A sensor_msgs/PointCloud2 of an array of `POINT`: one row, little endian, dense."""
    fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=4 * i,
            datatype=_FIELD_TYPES[kind],
            count=1,
        )
        for i, (name, kind) in enumerate(_FIELDS)
    ]
    return make(
        POINTS,
        header=header(frame, time_ns),
        height=1,
        width=len(rows),
        fields=fields,
        is_bigendian=False,
        point_step=POINT.itemsize,
        row_step=POINT.itemsize * len(rows),
        data=np.ascontiguousarray(rows).view(np.uint8),
        is_dense=True,
    )
