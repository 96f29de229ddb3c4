"""Training batches drawn from pre-rendered pools: a pure function of (seed, step)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from data.rooms.pool import load_chunk, load_pool
from ffsplat.errors import UsageError
from ffsplat.geometry import invert_rigid


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


KEYS = ("image", "depth", "whole", "part", "instance", "intrinsics", "world_from_camera")


def read_pool(folder: Path) -> dict[str, np.ndarray]:
    """All complete chunks of a pool (`python -m data pool`) as one array a key.

    Raises UsageError if there are none.
    """
    chunks = [load_chunk(path) for path in load_pool(folder)]
    if not chunks:
        raise UsageError(f"no pool in {folder}", hint=f"python -m data pool --out {folder}")
    return {key: np.concatenate([chunk.pop(key) for chunk in chunks]) for key in KEYS}


def batch_from_pool(pool: dict[str, np.ndarray], scenes: np.ndarray, views: np.ndarray) -> Batch:
    """Gather sets of views: `scenes` (b,) and `views` (b, v) index the pool's first two axes."""
    rows = scenes[:, None]
    taken = {key: torch.from_numpy(pool[key][rows, views]) for key in KEYS}
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
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
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


def jitter(images: Float[Tensor, "b v 3 h w"], generator: torch.Generator) -> Tensor:
    """Exposure, contrast, tint and noise as cameras have them; a set shares most of each change."""
    b, v = images.shape[:2]

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, 1, 1, generator=generator)

    gain = (0.12 * draw(b, 1, 1) + 0.05 * draw(b, v, 1) + 0.06 * draw(b, 1, 3)).exp()
    gamma = (0.15 * draw(b, 1, 1)).exp()
    images = (images * gain).clamp(0, 1) ** gamma
    grey = (torch.rand(b, 1, 1, 1, 1, generator=generator) < 0.05).float()
    images = torch.lerp(images, images.mean(2, keepdim=True).expand_as(images), grey)
    noise = 0.02 * torch.rand(b, 1, 1, 1, 1, generator=generator)
    return (images + noise * torch.randn(images.shape, generator=generator)).clamp(0, 1)


class PoolBatches(Dataset[Batch]):
    """Item `step` is the whole batch of that step, so a resumed run sees what it would have seen.

    A batch holds sets of one length, drawn from `view_counts`, and always the same number of
    images; views of a set are drawn and ordered at random.
    """

    def __init__(
        self,
        pool: dict[str, np.ndarray],
        *,
        images: int,
        view_counts: tuple[int, ...],
        steps: int,
        seed: int,
    ):
        self.pool = pool
        self.images = images
        self.view_counts = view_counts
        self.steps = steps
        self.seed = seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        random = np.random.default_rng((self.seed, step))
        scenes, available = self.pool["depth"].shape[:2]
        count = min(int(random.choice(self.view_counts)), available)
        sets = max(1, self.images // count)
        views = np.argsort(random.random((sets, available)), axis=1)[:, :count]
        batch = batch_from_pool(self.pool, random.integers(scenes, size=sets), views)
        if random.random() < 0.5:
            batch = flip(batch)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        return Batch(**{**vars(batch), "images": jitter(batch.images, generator)})
