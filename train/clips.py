"""Sets of views from shards: clips of any origin and size, resized to what a step asks for."""

import cv2
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data.clip import UNKNOWN, Clip
from data.shards import EndlessOrder, ShardDataset
from ffsplat.errors import UsageError
from ffsplat.geometry import invert_rigid
from train.batches import Batch, crop_teacher, identities
from train.plan import Draw

COUNTED = 32
"""Clips whose labels tell how often rows occur."""
TEACHER_STRIDE = 8
"""Features of other networks are brought to one value in so many pixels."""


class ClipSource:
    """Clips in the order of their shards, epoch after epoch; views of a clip at random."""

    def __init__(self, clips: ShardDataset, size: int, seed: int):
        self.clips = clips
        self.size = size
        self.order = EndlessOrder(clips.index, seed)

    def batch(
        self, step: int, draw: Draw, own: np.ndarray, size: tuple[int, int],
        random: np.random.Generator,
    ) -> Batch:  # fmt: skip
        """The next clips; raises UsageError for one with fewer views than the step asks for."""
        seeds = random.integers(2**62, size=draw.sets)
        sets = []
        for one in own:
            clip = self.clips[self.order[draw.position + int(one)]]
            available = len(clip.images)
            if available < draw.views:
                raise UsageError(
                    f"clip {clip.key} has {available} views, not {draw.views}",
                    hint="lower data.view_counts, or convert with more --views",
                )
            views = np.random.default_rng(seeds[one]).permutation(available)[: draw.views]
            sets.append(batch_from_clip(clip, views, size))
        return stack(sets)

    def labels(self, level: str) -> Int[Tensor, "..."]:
        """Those of some clips all over the shards; none where there are none."""
        numbers = np.linspace(0, len(self.clips) - 1, min(COUNTED, len(self.clips))).astype(int)
        found = [getattr(self.clips[int(number)], level) for number in numbers]
        flat = [torch.from_numpy(labels.ravel()) for labels in found if labels is not None]
        return torch.cat(flat).long() if flat else torch.empty(0, dtype=torch.long)


def batch_from_clip(clip: Clip, views: np.ndarray, size: tuple[int, int]) -> Batch:
    """Some views of a clip as one set, resized to cover (height, width) and cut to its middle."""
    height, width = clip.images.shape[1:3]
    scale = max(size[0] / height, size[1] / width)
    grown = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    top, left = (grown[0] - size[0]) // 2, (grown[1] - size[1]) // 2

    def fit(maps: np.ndarray | None, missing: int, how: int = cv2.INTER_NEAREST_EXACT) -> Tensor:
        if maps is None:
            return torch.full((1, len(views), *size), missing)
        resized = [cv2.resize(maps[view], grown[::-1], interpolation=how) for view in views]
        middle = [one[top : top + size[0], left : left + size[1]] for one in resized]
        return torch.from_numpy(np.stack(middle))[None]

    images = fit(clip.images, 0, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    intrinsics = torch.from_numpy(clip.intrinsics[views])[None].clone()
    intrinsics[..., 0, :] *= grown[1] / width
    intrinsics[..., 1, :] *= grown[0] / height
    intrinsics[..., :2, 2] -= torch.tensor([left, top])
    poses = torch.from_numpy(clip.world_from_camera[views])[None]
    whole = fit(clip.whole, UNKNOWN).long()
    return Batch(
        images=images.movedim(-1, -3).float() / 255,
        depth=fit(clip.depth, 0).float(),
        whole=whole,
        part=fit(clip.part, UNKNOWN).long(),
        identity=identities(fit(clip.instance, UNKNOWN).long(), whole),
        intrinsics=intrinsics,
        world_from_camera=invert_rigid(poses[:, :1]) @ poses,
        metric=torch.tensor([clip.metric]),
        teachers={
            name: crop_teacher(
                torch.from_numpy(features[views])[None],
                size[0] / grown[0], size[1] / grown[1],
                (size[0] // TEACHER_STRIDE, size[1] // TEACHER_STRIDE),
            )
            for name, features in clip.teachers.items()
        },
    )  # fmt: skip


def stack(sets: list[Batch]) -> Batch:
    """Several sets as one batch; raises UsageError if they do not have the same teachers."""
    names = sets[0].teachers.keys()
    if any(one.teachers.keys() != names for one in sets):
        raise UsageError("the clips of a source do not all have the same teachers")
    fields = {
        name: torch.cat([getattr(one, name) for one in sets])
        for name in vars(sets[0])
        if name != "teachers"
    }
    return Batch(
        **fields,
        teachers={name: torch.cat([one.teachers[name] for one in sets]) for name in names},
    )
