"""The way of a camera, frame by frame, in bounded memory."""

from collections.abc import Collection, Mapping
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Float64, Int64

from ffsplat.alignment import Similarity
from ffsplat.geometry import matrix_from_quaternion, quaternion_from_matrix
from ffsplat.stream.delta import FramePoses
from ffsplat.stream.map.submaps import pack_turns
from ffsplat.stream.turns import quaternion_of, rotation_of


class Trajectory:
    """The last `most` frames that were placed, each in the frame of a submap."""

    def __init__(self, most: int):
        self.most = most
        self._records = np.zeros(
            min(most, 1024),
            [
                ("numbers", np.int64),
                ("times_ns", np.int64),
                ("submaps", np.uint16),
                ("poses", np.float64, 7),
                ("intrinsics", np.float32, 6),
                ("keyframes", np.uint8),
                ("given", np.float64, 7),
            ],
        )
        self._untold = np.zeros(len(self._records), bool)
        self._count = 0  # all that were ever added

    def __len__(self) -> int:
        return min(self._count, self.most)

    @property
    def added(self) -> int:
        """Frames that were ever added: the place on the way of the next one."""
        return self._count

    def add(
        self,
        number: int,
        time_ns: int,
        submap: int,
        submap_from_camera: Float64[np.ndarray, "4 4"],
        intrinsics: np.ndarray,
        keyframe: bool,
        given: Float64[np.ndarray, "4 4"] | None = None,
    ) -> None:
        """Add a frame; `intrinsics` is (fx, fy, cx, cy, width, height).

        `given` is the pose that came with it, in the sender's world.
        """
        if self._count >= len(self._records) < self.most:
            grown = np.zeros(min(self.most, 2 * len(self._records)), self._records.dtype)
            grown[: len(self._records)] = self._records
            self._records = grown
            self._untold = np.append(self._untold, np.zeros(len(grown) - len(self._untold), bool))
        said = np.full(7, np.nan) if given is None else _as_record(given)
        pose = _as_record(submap_from_camera)
        record = (number, time_ns, submap, pose, intrinsics, keyframe, said)
        row = self._count % len(self._records)
        self._records[row], self._untold[row] = record, True
        self._count += 1

    def stand_as_given(
        self, submaps: Mapping[int, Similarity], current: int, among: Collection[int]
    ) -> None:
        """Have frames with a pose exactly there, in a world that has become the sender's.

        `submaps` is how they lie in it, `among` those whose frames are meant; frames of one that is
        gone belong to the `current` one.
        """
        inside, posed = (self._records[name][: len(self)] for name in ("submaps", "given"))
        meant = np.isin(inside, list(among)) | ~np.isin(inside, list(submaps))
        rows = np.flatnonzero(meant & np.isfinite(posed[:, 0]))
        owners = np.where(np.isin(inside[rows], list(submaps)), inside[rows], current)
        for own in np.unique(owners).tolist():
            some = rows[owners == own]
            self._stand(some, own, submaps[own].inverse().poses(matrices(posed[some])))

    def posed(
        self, submaps: Mapping[int, Similarity], most: int
    ) -> tuple[Float64[np.ndarray, "c 4 4"], Float64[np.ndarray, "c 4 4"]]:
        """Where frames with a pose, of the last `most`, stand in the world, and what was given.

        `submaps` is how these lie in it; frames of one that is gone are left out.
        """
        rows = self._order(self._count - min(most, len(self)))
        rows = rows[np.isfinite(self._records["given"][rows, 0])]
        rows = rows[np.isin(self._records["submaps"][rows], list(submaps))]
        owners = self._records["submaps"][rows]
        poses = matrices(self._records["poses"][rows])
        for own in np.unique(owners).tolist():
            poses[owners == own] = submaps[own].poses(poses[owners == own])
        return poses, matrices(self._records["given"][rows])

    def stand(
        self, frames: Mapping[int, Similarity], submaps: Mapping[int, Similarity], current: int
    ) -> None:
        """Have frames, by their places on the way, stand elsewhere in the world.

        `submaps` is how these lie; frames of one that is gone belong to the `current` one.
        """
        frames = {place: one for place, one in frames.items() if place >= self._count - len(self)}
        if not frames:
            return
        rows = np.array(list(frames), np.int64) % len(self._records)
        known = [n if n in submaps else current for n in self._records["submaps"][rows].tolist()]
        own = [submaps[n] for n in known]
        # All of them together, as this comes before a frame is placed.
        back = np.array([one.rotation for one in own]).transpose(0, 2, 1)
        scales = np.array([one.scale for one in own])
        away = np.array([one.translation for one in frames.values()])
        away -= np.array([one.translation for one in own])
        packed = np.empty((len(rows), 8))
        pack_turns(back @ np.array([one.rotation for one in frames.values()]), packed)
        packed[:, 5:] = (back @ away[..., None])[..., 0] / scales[:, None]
        self._records["submaps"][rows], self._records["poses"][rows] = known, packed[:, 1:]
        self._untold[rows] = True

    def last(self) -> FramePoses:
        """The last one, if there is any."""
        return self._rows(max(0, self._count - min(1, len(self))))

    def newest(self) -> tuple[int, Float64[np.ndarray, "4 4"]]:
        """The submap of the last one, and submap_from_camera; there is one."""
        record = self._records[(self._count - 1) % len(self._records)]
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation_of(record["poses"][:4]), record["poses"][4:]
        return int(record["submaps"]), pose

    def frames(self) -> FramePoses:
        """All that are remembered, in their order."""
        return self._rows(self._count - len(self))

    def take(self) -> FramePoses:
        """Those that were added, or tied to another submap, since the last call."""
        rows = self._order(self._count - len(self))
        rows = rows[self._untold[rows]]
        self._untold[:] = False
        return self._chosen(rows)

    def tell_again(self) -> None:
        """Let `take` give all that are remembered."""
        self._untold[:] = True

    def move(self, submap: int, to: int, to_from_submap: Similarity) -> None:
        """Tie the frames of a submap that goes to another one."""
        rows = np.flatnonzero(self._records["submaps"][: len(self)] == submap)
        self._stand(rows, to, to_from_submap.poses(matrices(self._records["poses"][rows])))

    def _stand(
        self, rows: Int64[np.ndarray, " c"], submap: int, poses: Float64[np.ndarray, "c 4 4"]
    ) -> None:
        """Note where frames, by where they are kept, stand in a submap."""
        self._records["poses"][rows, :4] = _quaternion(poses[:, :3, :3])
        self._records["poses"][rows, 4:] = poses[:, :3, 3]
        self._records["submaps"][rows] = submap
        self._untold[rows] = True

    def state(self) -> dict[str, np.ndarray]:
        """All of it as arrays."""
        return {
            "records": self._records.view(np.uint8).reshape(len(self._records), -1),
            "untold": self._untold,
            "count": np.array(self._count),
        }

    @classmethod
    def from_state(cls, most: int, arrays: dict[str, np.ndarray]) -> "Trajectory":
        """What `state` gave."""
        restored = cls(most)
        dtype = restored._records.dtype
        restored._records = np.ascontiguousarray(arrays["records"]).view(dtype)[:, 0].copy()
        restored._untold = arrays["untold"].copy()
        restored._count = int(arrays["count"])
        return restored

    def _rows(self, first: int) -> FramePoses:
        return self._chosen(self._order(first))

    def _order(self, first: int) -> Int64[np.ndarray, " c"]:
        """Where the frames from the `first` one on are kept."""
        return np.arange(first, self._count) % len(self._records)

    def _chosen(self, rows: Int64[np.ndarray, " c"]) -> FramePoses:
        names = [field.name for field in fields(FramePoses)]
        return FramePoses(**{name: self._records[name][rows] for name in names})


def matrices(poses: Float64[np.ndarray, "c 7"]) -> Float64[np.ndarray, "c 4 4"]:
    """Rigid 4x4 matrices of (quaternion wxyz, translation)."""
    rigid = np.tile(np.eye(4), (len(poses), 1, 1))
    rigid[:, :3, :3] = matrix_from_quaternion(torch.from_numpy(poses[:, :4])).numpy()
    rigid[:, :3, 3] = poses[:, 4:]
    return rigid


def _as_record(pose: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, " 7"]:
    """A rigid matrix as (quaternion wxyz, translation)."""
    return np.append(quaternion_of(pose[:3, :3]), pose[:3, 3])


def _quaternion(rotation: Float64[np.ndarray, "*n 3 3"]) -> Float64[np.ndarray, "*n 4"]:
    return quaternion_from_matrix(torch.from_numpy(np.ascontiguousarray(rotation))).numpy()
