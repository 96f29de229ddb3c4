"""Clips of toy rooms, and a network that knows everything about them."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from boxpool import box_pool
from fakes import fake_prediction
from torch import Tensor

from data.clip import Clip
from data.rooms import PART_NAMES, WHOLE_NAMES
from ffsplat.geometric import geometric_gaussians
from ffsplat.geometry import invert_rigid
from ffsplat.model import FFSplat
from train.batches import Batch

FACES = torch.tensor([0, WHOLE_NAMES.index("sofa"), WHOLE_NAMES.index("table")])
"""Rows of the box's faces: a wall, and two that pass for objects."""
UNIT = 2.0
"""Of the oracle's units of length, so many are a metre."""


def box_clips(rooms: int = 4, views: int = 4, size: int = 32) -> list[Clip]:
    """Clips of painted boxes; each face is one object of its own class."""
    pool = box_pool(rooms, views, size)
    return [
        Clip(
            key=f"box-{index}",
            source="box",
            metric=True,
            images=pool["image"][index],
            intrinsics=pool["intrinsics"][index],
            world_from_camera=pool["world_from_camera"][index],
            depth=pool["depth"][index].astype("float32"),
            whole=FACES[pool["whole"][index].astype(int)].short().numpy(),
            part=pool["part"][index].astype("int16"),
            instance=pool["instance"][index].astype("int16"),
        )
        for index in range(rooms)
    ]


def pick(batch: Batch, views: Tensor) -> Batch:
    """The same sets with these views, in this order."""
    names = ("images", "depth", "whole", "part", "identity", "intrinsics", "world_from_camera")
    return replace(batch, **{name: getattr(batch, name)[:, views] for name in names})


class Oracle(FFSplat):
    """Says the truth of every view of one set that it is shown, with the first as the reference."""

    def __init__(self, known: Batch):
        torch.nn.Module.__init__(self)  # it needs no layers to know
        self.known = known

    def forward(self, images: Tensor):
        """What is true of these images."""
        found = (images[0, :, None] == self.known.images[0]).flatten(2).all(2)
        given = pick(self.known, found.long().argmax(1))
        b, v, h, w = given.depth.shape
        poses = invert_rigid(given.world_from_camera[:, :1]) @ given.world_from_camera
        poses[..., :3, 3] *= UNIT
        depth, error = UNIT * given.depth, torch.full_like(given.depth, 1e-4)
        shaped = geometric_gaussians(depth, error, given.intrinsics, given.images.movedim(2, -1))
        return fake_prediction(
            b=b, v=v, h=h, w=w,
            depth=depth,
            depth_error=error,
            scale=UNIT * given.depth.mean((1, 2, 3)),
            world_from_camera=poses,
            intrinsics=given.intrinsics,
            whole_logits=9 * F.one_hot(given.whole.clamp(min=0), len(WHOLE_NAMES)).float(),
            part_logits=9 * F.one_hot(given.part.clamp(min=0), len(PART_NAMES)).float(),
            instances=F.one_hot(given.identity + 9, 16).float(),
            descriptors=silent_descriptors(b, v, h // 4, w // 4),
            token_descriptors=silent_descriptors(b, v, h // 8, w // 8),
            **shaped,
        )  # fmt: skip


def silent_descriptors(b: int, v: int, rows: int, columns: int) -> Tensor:
    """Descriptors by which everything matches a cell at the border, where no match counts.

    So refinement has nothing to go by, and leaves the cameras where they are.
    """
    vectors = torch.zeros(b, v, rows, columns, 1 + v)
    vectors[..., 0] = 1
    for view in range(v):
        vectors[:, view, ..., 1 + view] = 1
    vectors[:, :, 0, 0, 1:] = 0
    return F.normalize(vectors, dim=-1)
