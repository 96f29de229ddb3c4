"""A predictor that knows the truth of a walk: what a network would say, at next to no cost.

It tells by the picture which place it shows: the one whose small version is most like it. So
pictures may have gone through JPEG, other sizes, other light and noise on their way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from data.rooms.walk import Places
from ffsplat.codebook import lexicon_codebook, rows_of_level
from ffsplat.geometry import (
    focal_lengths,
    invert_rigid,
    rigid,
    rotation_from_vector,
    transform_points,
    unproject,
)
from ffsplat.prediction import PixelMeaning, Prediction
from ffsplat.types import Codebook, Views

SMALL = (24, 32)
"""Rows and columns of the small versions by which places are told apart."""
ALIKE = 0.8
"""Cosine from which on a picture is taken for a place; with less it shows something else."""
WIDTH = 64
"""Channels of descriptors."""
REACHES = {"descriptors": 0.15, "token_descriptors": 0.6}
"""Metres over which two points on the surface have like descriptors."""
INSTANCE_WIDTH = 8
LOGIT = 12.0
SURE = 0.005
"""Least expected error of log depth."""


@dataclass(frozen=True)
class Faults:
    """By how much a stub is wrong; each window draws its own errors, always the same ones.

    `depth` is the standard deviation of log depth, smooth over the picture. `turn` (degrees) and
    `move` (over the mean depth) are those of each axis of each camera, `scale` that of the log of
    the unit of a window. `bad` is the share of pixels whose depth is off by up to a factor of 3.
    """

    depth: float = 0.0
    turn: float = 0.0
    move: float = 0.0
    scale: float = 0.0
    bad: float = 0.0


def small_versions(
    images: Float[np.ndarray, "n h w 3"] | UInt8[np.ndarray, "n h w 3"],
) -> Float32[np.ndarray, "n p"]:
    """Pictures of SMALL pixels without their mean, of unit length."""
    planes = torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float()
    small = F.adaptive_avg_pool2d(planes, SMALL).flatten(1)
    return F.normalize(small - small.mean(1, keepdim=True), dim=1).numpy()


@dataclass(eq=False)
class StubPredictor:
    """`Predictor` of a walk: exact, or with `faults`. Codes, objects and descriptors are exact.

    Of a picture of something else it says that it is a wall at depth 1, and is not sure at all.
    """

    places: Places
    faults: Faults = Faults()
    resolution: int = 128
    patch: int = 8
    metric: bool = False
    codebook: Codebook | None = field(default_factory=lexicon_codebook)
    provenance: Mapping[str, str] = field(default_factory=lambda: {"model": "stub"})

    @cached_property
    def _known(self) -> Float32[np.ndarray, "n p"]:
        return np.concatenate(
            [small_versions(self.places.image[row][None]) for row in range(len(self.places))]
        )

    def look_up(self, images: Float32[np.ndarray, "v h w 3"]) -> Int64[np.ndarray, " v"]:
        """The place that each picture shows, -1 for none."""
        # By torch, in as many threads as it may have: idle ones of NumPy's would spin for a while.
        small, known = torch.from_numpy(small_versions(images)), torch.from_numpy(self._known)
        likeness = (small @ known.T).numpy()
        return np.where(likeness.max(1) > ALIKE, likeness.argmax(1), -1)

    def predict(self, views: Views, placed: int = 0) -> Prediction:
        """What is true of these views, with the faults of this window.

        Of the first `placed` views it is only what places them, as with a network.
        """
        shown = self.look_up(views.pixels)
        height, width = views.valid.shape[1:]
        random = np.random.default_rng(shown + 1)
        unit = float(np.exp(self.faults.scale * random.standard_normal()))
        depth = torch.from_numpy(self._truth("depth", shown, height, width)).float()
        nothing = torch.from_numpy(shown < 0)
        depth[nothing] = 1
        poses = self.places.world_from_camera[np.where(shown < 0, shown[0], shown)]
        intrinsics = self._intrinsics(views)
        points = transform_points(
            torch.from_numpy(poses).float(), unproject(depth, intrinsics).flatten(1, 2)
        )
        points = points.unflatten(1, (height, width))
        points[nothing] = 100 + torch.from_numpy(views.pixels)[nothing]
        unsure = nothing[:, None, None]
        depth = unit * self._wrong_depth(depth, random)
        error = torch.where(unsure, 1.0, max(SURE, 0.8 * self.faults.depth)).expand_as(depth)
        tokens = described(points, self.patch, "token_descriptors")
        footprint = depth / focal_lengths(intrinsics)[:, :1, None]
        batch = {
            "depth": depth,
            "depth_error": error,
            "world_from_camera": self._wrong_poses(poses, unit, float(depth.mean()), random),
            "intrinsics": intrinsics,
            "offsets": torch.zeros(*depth[placed:].shape, 2),
            "scales": 0.35 * footprint[placed:, ..., None].expand(-1, -1, -1, 3),
            "quaternions_wxyz": torch.tensor([1.0, 0, 0, 0]).expand(*depth[placed:].shape, 4),
            "opacities": torch.where(unsure, 0.1, 0.95).expand_as(depth)[placed:],
            "colors": torch.from_numpy(views.pixels)[placed:],
            "instances": self._instances(shown[placed:], height, width),
            "descriptors": described(points, 4, "descriptors"),
            "token_descriptors": tokens,
            "features": tokens,
            **self._logits(shown[placed:], height, width),
        }
        return Prediction(
            scale=depth.mean()[None], **{name: value[None] for name, value in batch.items()}
        )

    def _truth(
        self, name: str, shown: Int64[np.ndarray, " v"], height: int, width: int
    ) -> np.ndarray:
        """Maps of the places at the size of the views, nearest pixels."""
        maps = getattr(self.places, name)
        rows, columns = (
            ((np.arange(side) + 0.5) * full / side).astype(int)
            for side, full in zip((height, width), maps.shape[1:3], strict=True)
        )
        return maps[shown[:, None, None], rows[:, None], columns]

    def _intrinsics(self, views: Views) -> Float32[Tensor, "v 3 3"]:
        """Those of the views where they are known, else those of the walk at this size."""
        height, width = views.valid.shape[1:]
        full_height, full_width = self.places.image.shape[1:3]
        true = np.diag([width / full_width, height / full_height, 1]) @ self.places.intrinsics
        return torch.from_numpy(
            np.where(np.isnan(views.intrinsics), true, views.intrinsics)
        ).float()

    def _wrong_depth(
        self, depth: Float32[Tensor, "v h w"], random: np.random.Generator
    ) -> Float32[Tensor, "v h w"]:
        """Depth with the faults of this window."""
        if not self.faults.depth and not self.faults.bad:
            return depth
        coarse = torch.from_numpy(random.standard_normal((len(depth), 1, 4, 4), np.float32))
        smooth = F.interpolate(coarse, depth.shape[1:], mode="bicubic", align_corners=True)[:, 0]
        bad = torch.from_numpy(random.random(depth.shape) < self.faults.bad)
        factor = torch.from_numpy(3 ** random.uniform(-1, 1, depth.shape)).float()
        return depth * (self.faults.depth * smooth).exp() * torch.where(bad, factor, 1)

    def _wrong_poses(
        self,
        world_from_camera: Float64[np.ndarray, "v 4 4"],
        unit: float,
        size: float,
        random: np.random.Generator,
    ) -> Float32[Tensor, "v 4 4"]:
        """Poses in the frame of the first view, with the faults; `size` is the mean depth."""
        turn, move = torch.from_numpy(random.standard_normal((2, len(world_from_camera), 3)))
        turn[0] = move[0] = 0
        poses = torch.from_numpy(world_from_camera)
        relative = invert_rigid(poses[:1]) @ poses
        wrong = rotation_from_vector(np.radians(self.faults.turn) * turn) @ relative[:, :3, :3]
        centres = unit * relative[:, :3, 3] + self.faults.move * size * move
        return rigid(wrong, centres).float()

    def _instances(
        self, shown: Int64[np.ndarray, " v"], height: int, width: int
    ) -> Float32[Tensor, "v h w e"]:
        """A unit vector for each object."""
        table = np.random.default_rng(7).standard_normal((256, INSTANCE_WIDTH), np.float32)
        return F.normalize(torch.from_numpy(table), dim=1)[
            torch.from_numpy(self._truth("instance", shown, height, width)).int()
        ]

    def _logits(
        self, shown: Int64[np.ndarray, " v"], height: int, width: int
    ) -> dict[str, Float32[Tensor, "v h w _"]]:
        """The true rows of both levels, LOGIT above all others; 0 where nothing is known."""
        logits = {}
        for level in ("whole", "part"):
            rows = 0 if self.codebook is None else len(rows_of_level(self.codebook, level))
            values = torch.zeros(len(shown), height, width, rows)
            if rows:
                truth = torch.from_numpy(self._truth(level, shown, height, width)).long()
                values.scatter_(-1, truth[..., None], LOGIT)
            if (shown < 0).any():
                values[torch.from_numpy(shown < 0)] = 0
            logits[f"{level}_logits"] = values
        return logits

    def label(self, prediction: Prediction, views: Views) -> PixelMeaning | None:
        """Nothing: the heads say it."""
        return None

    def renumbered(self) -> None:
        """Nothing: rows keep their IDs."""

    def state(self) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing."""


def described(
    points: Float32[Tensor, "v h w 3"], stride: int, name: str
) -> Float32[Tensor, "v y x c"]:
    """Unit vectors, one every `stride` pixels, alike at points within the reach of their kind.

    Random Fourier features of a Gaussian kernel: Rahimi and Recht, NeurIPS 2007, algorithm 1.
    """
    random = np.random.default_rng(11)
    frequencies = random.standard_normal((3, WIDTH), np.float32) / np.float32(REACHES[name])
    phases = 2 * np.pi * random.random(WIDTH, np.float32)
    some = points[:, stride // 2 :: stride, stride // 2 :: stride]
    angles = some @ torch.from_numpy(frequencies) + torch.from_numpy(phases)
    return F.normalize(angles.cos(), dim=-1)
