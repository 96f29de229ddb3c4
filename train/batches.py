"""Training batches drawn from rooms: a pure function of (seed, step)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from ffsplat.geometry import invert_rigid
from train.rooms import KEYS, Pool, Rooms

SHAPES = ((8, 8), (6, 8), (6, 8), (5, 8), (8, 6))
"""Height and width, in eighths of the rooms' side, that a batch may be cropped to: 1:1, 4:3, 3:4
and nearly 16:9; rounded down to multiples of 8 pixels."""


@dataclass(frozen=True, eq=False)
class Batch:
    """b view sets with their truth; poses are relative to view 0, lengths in metres.

    `identity` numbers objects within a set; each structure class (wall, floor, ...) is one object.
    """

    images: Float[Tensor, "b v 3 h w"]
    depth: Float[Tensor, "b v h w"]
    whole: Int[Tensor, "b v h w"]
    part: Int[Tensor, "b v h w"]
    identity: Int[Tensor, "b v h w"]
    intrinsics: Float[Tensor, "b v 3 3"]
    world_from_camera: Float[Tensor, "b v 4 4"]

    def views(self, which: slice) -> "Batch":
        """The same sets with some of their views; poses stay relative to the first of all."""
        return Batch(**{key: tensor[:, which] for key, tensor in vars(self).items()})

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(**{key: tensor.to(device) for key, tensor in vars(self).items()})


def batch_from_pool(pool: Pool, scenes: np.ndarray, views: np.ndarray) -> Batch:
    """Gather sets of views: `scenes` (b,) and `views` (b, v) index the pool's first two axes."""
    rows, columns = torch.from_numpy(scenes[:, None]), torch.from_numpy(views)
    taken = {key: torch.as_tensor(pool[key])[rows, columns] for key in KEYS}
    world_from_camera = taken["world_from_camera"].float()
    reference = invert_rigid(world_from_camera[:, :1])
    whole = taken["whole"].long()
    instance = taken["instance"].long()
    return Batch(
        images=taken["image"].movedim(-1, -3).float() / 255,
        depth=taken["depth"].float(),
        whole=whole,
        part=taken["part"].long(),
        identity=torch.where(instance > 0, instance, -1 - whole),
        intrinsics=taken["intrinsics"].float(),
        world_from_camera=reference @ world_from_camera,
    )


def flip(batch: Batch) -> Batch:
    """The mirror image of a batch: columns reversed, the world mirrored at x = 0."""
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1])).to(batch.images.device)
    intrinsics = batch.intrinsics.clone()
    intrinsics[..., 0, 2] = batch.images.shape[-1] - intrinsics[..., 0, 2]
    return Batch(
        images=batch.images.flip(-1),
        depth=batch.depth.flip(-1),
        whole=batch.whole.flip(-1),
        part=batch.part.flip(-1),
        identity=batch.identity.flip(-1),
        intrinsics=intrinsics,
        world_from_camera=mirror @ batch.world_from_camera @ mirror,
    )


def crop(batch: Batch, height: int, width: int) -> Batch:
    """The middle of every image; `height` and `width` differ from the images' by even numbers."""
    top, left = (batch.images.shape[-2] - height) // 2, (batch.images.shape[-1] - width) // 2
    intrinsics = batch.intrinsics.clone()
    intrinsics[..., :2, 2] -= torch.tensor([left, top], device=intrinsics.device)
    cut = {
        name: tensor[..., top : top + height, left : left + width]
        for name, tensor in vars(batch).items()
        if tensor.shape[-2:] == batch.images.shape[-2:]
    }
    return replace(batch, **cut, intrinsics=intrinsics)


def jitter(images: Float[Tensor, "b v 3 h w"], generator: torch.Generator) -> Tensor:
    """Exposure, contrast, tint and noise as cameras have them; a set shares most of each change."""
    b, v = images.shape[:2]

    device = images.device

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, 1, 1, generator=generator, device=device)

    gain = (0.12 * draw(b, 1, 1) + 0.05 * draw(b, v, 1) + 0.06 * draw(b, 1, 3)).exp()
    gamma = (0.15 * draw(b, 1, 1)).exp()
    images = (images * gain).clamp(0, 1) ** gamma
    grey = (torch.rand(b, 1, 1, 1, 1, generator=generator, device=device) < 0.05).float()
    images = torch.lerp(images, images.mean(2, keepdim=True).expand_as(images), grey)
    noise = 0.02 * torch.rand(b, 1, 1, 1, 1, generator=generator, device=device)
    grain = torch.randn(images.shape, generator=generator, device=device)
    return (images + noise * grain).clamp(0, 1)


class RoomBatches(Dataset[Batch]):
    """Item `step` is the whole batch of that step, so a resumed run sees what it would have seen.

    A batch holds sets of one length, drawn from `view_counts`, and always the same number of
    images; views of a set are drawn and ordered at random. Its images are cropped to one of
    SHAPES, so that the network learns landscape and portrait too.
    """

    def __init__(
        self,
        rooms: Rooms,
        *,
        images: int,
        view_counts: tuple[int, ...],
        steps: int,
        seed: int,
    ):
        self.rooms = rooms
        self.images = images
        self.view_counts = view_counts
        self.steps = steps
        self.seed = seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        random = np.random.default_rng((self.seed, step))
        pool = self.rooms.at(step)
        scenes, available = pool["depth"].shape[:2]
        count = min(int(random.choice(self.view_counts)), available)
        sets = max(1, self.images // count)
        views = np.argsort(random.random((sets, available)), axis=1)[:, :count]
        batch = batch_from_pool(pool, random.integers(scenes, size=sets), views)
        if random.random() < 0.5:
            batch = flip(batch)
        rows, columns = SHAPES[random.integers(len(SHAPES))]
        side = batch.images.shape[-1]
        batch = crop(batch, *(max(8, side * eighths // 64 * 8) for eighths in (rows, columns)))
        generator = torch.Generator(batch.images.device)
        generator.manual_seed(int(random.integers(2**62)))
        return replace(batch, images=jitter(batch.images, generator))
