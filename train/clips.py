"""Sets of views from shards: clips of any origin and size, resized to what a step asks for."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data.clip import UNKNOWN, Clip
from data.shards import EndlessOrder, ShardDataset
from ffsplat.errors import UsageError
from train.batches import Batch, batch_from_pool, crop, crop_sizes, crop_teacher
from train.plan import Draw
from train.rooms import Pool

COUNTED = 32
"""Clips whose labels tell how often rows occur."""
TEACHER_STRIDE = 8
"""Features of other networks are brought to one value in so many pixels."""

RESIDENT = 8 << 30
"""Bytes that the clips of a source may take on the device that trains."""
MISSING = {"depth": 0, "whole": UNKNOWN, "part": UNKNOWN, "instance": UNKNOWN}
"""Maps that a clip may lack, and the value of a pixel where they are not known."""


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
                raise too_few_views(f"clip {clip.key}", available, draw.views)
            views = draw_views(int(seeds[one]), available, draw.views)
            sets.append(batch_from_clip(clip, views, size))
        return stack(sets)

    def labels(self, level: str) -> Int[Tensor, "..."]:
        """Those of some clips all over the shards; none where there are none."""
        numbers = np.linspace(0, len(self.clips) - 1, min(COUNTED, len(self.clips))).astype(int)
        found = [getattr(self.clips[int(number)], level) for number in numbers]
        flat = [torch.from_numpy(labels.ravel()) for labels in found if labels is not None]
        return torch.cat(flat).long() if flat else torch.empty(0, dtype=torch.long)


class ResidentSource:
    """The sets of a ClipSource, but read before the first step and kept on a device.

    Teachers are left out.
    """

    def __init__(
        self, clips: ShardDataset, size: int, seed: int, device: torch.device, multiple: int = 8
    ):
        """Read all clips; raises UsageError if they differ in shape or take too much memory."""
        self.size = size
        self.order = EndlessOrder(clips.index, seed)
        self.pools = read_resident(clips, crop_sizes(size, multiple), device)

    def batch(
        self, step: int, draw: Draw, own: np.ndarray, size: tuple[int, int],
        random: np.random.Generator,
    ) -> Batch:  # fmt: skip
        """The next clips; raises UsageError if they have fewer views than the step asks for."""
        seeds = random.integers(2**62, size=draw.sets)
        numbers = [self.order[draw.position + int(one)] for one in own]
        pool = self.pools[size]
        available = pool["image"].shape[1]
        if available < draw.views:
            raise too_few_views("each clip", available, draw.views)
        views = [draw_views(int(seeds[one]), available, draw.views) for one in own]
        return crop(batch_from_pool(pool, np.array(numbers), np.stack(views)), *size)

    def labels(self, level: str) -> Int[Tensor, "..."]:
        """Those of some clips all over the shards, resized."""
        labels = torch.as_tensor(next(iter(self.pools.values()))[level])
        return labels[np.linspace(0, len(labels) - 1, min(COUNTED, len(labels))).astype(int)]


def draw_views(seed: int, available: int, count: int) -> np.ndarray:
    """Different views of a clip, at random."""
    return np.random.default_rng(seed).permutation(available)[:count]


def too_few_views(name: str, available: int, count: int) -> UsageError:
    """The error of a clip that cannot give a step as many views as it asks for."""
    return UsageError(
        f"{name} has {available} views, not {count}",
        hint="lower data.view_counts, or convert with more --views",
    )


def read_resident(
    clips: ShardDataset, sizes: Sequence[tuple[int, int]], device: torch.device
) -> dict[tuple[int, int], Pool]:
    """All clips, resized as little as covers a crop, as a pool for each of the crops' `sizes`.

    Sizes that take the same resized clips share a pool. Raises UsageError for a clip that has other
    views or, resized, other sides than the first, and for more memory than RESIDENT: then before
    any other clip than the first is read.
    """

    def read(number: int) -> list[dict[str, np.ndarray]]:
        clip = clips[number]
        views, height, width = clip.images.shape[:3]
        fitting = [covering((height, width), size) for size in sizes]
        if views != len(first.images) or fitting != covers:
            raise UsageError(
                f"clip {clip.key} has {views} views of {width} x {height} pixels, "
                f"clip {first.key} {len(first.images)} of {first.images.shape[2]} x "
                f"{first.images.shape[1]}",
                hint="convert to clips of one shape, as with --square, or leave resident out",
            )
        return [resize_clip(clip, np.arange(views), cover) for cover in pools]

    first = clips[0]
    covers = [covering(first.images.shape[1:3], size) for size in sizes]
    pools: dict[tuple[int, int], dict[str, Tensor]] = {cover: {} for cover in covers}
    _check_memory(clips, sum(part.nbytes for parts in read(0) for part in parts.values()))
    with ThreadPoolExecutor() as threads:
        for number, parts in enumerate(threads.map(read, range(len(clips)))):
            for pool, arrays in zip(pools.values(), parts, strict=True):
                _keep(pool, number, len(clips), arrays, device)
    return {size: with_unknown(pools[cover]) for size, cover in zip(sizes, covers, strict=True)}


def _check_memory(clips: ShardDataset, bytes_each: int) -> None:
    total = len(clips) * bytes_each
    if total > RESIDENT:
        raise UsageError(
            f"the {len(clips)} clips of {clips.folder} would take {total / 1e9:.1f} GB of the "
            f"{RESIDENT / 1e9:.1f} GB that resident clips may",
            hint="lower the source's size, or leave resident out",
        )


def _keep(
    pool: dict[str, Tensor], row: int, rows: int, arrays: dict[str, np.ndarray],
    device: torch.device,
) -> None:  # fmt: skip
    """Write a clip into a pool; a map that no clip before had is begun."""
    for key, values in arrays.items():
        tensor = torch.from_numpy(values)
        if key not in pool:
            shape, missing = (rows, *tensor.shape), MISSING.get(key, 0)
            pool[key] = torch.full(shape, missing, dtype=tensor.dtype, device=device)
        pool[key][row] = tensor


def with_unknown(pool: dict[str, Tensor]) -> Pool:
    """A pool with the maps that it lacks, unknown everywhere; they take no memory."""
    image = pool["image"]
    unknown = {
        key: torch.full((), missing, device=image.device).expand(image.shape[:-1])
        for key, missing in MISSING.items()
    }
    return unknown | pool


def covering(sides: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that an image of these sides is resized to so that it covers `size`."""
    scale = max(size[0] / sides[0], size[1] / sides[1])
    return max(size[0], round(sides[0] * scale)), max(size[1], round(sides[1] * scale))


def resize_clip(clip: Clip, views: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Some views of a clip resized to (height, width), as a pool has them of a room.

    Of the maps there are those that the clip has.
    """
    height, width = clip.images.shape[1:3]

    def resize(maps: np.ndarray, how: int = cv2.INTER_NEAREST_EXACT) -> np.ndarray:
        return np.stack([cv2.resize(maps[view], size[::-1], interpolation=how) for view in views])

    smaller = size[0] * size[1] < height * width
    maps = {key: getattr(clip, key) for key in MISSING}
    scale = np.array([size[1] / width, size[0] / height, 1], np.float32)
    return {
        "image": resize(clip.images, cv2.INTER_AREA if smaller else cv2.INTER_LINEAR),
        **{key: resize(values) for key, values in maps.items() if values is not None},
        "intrinsics": clip.intrinsics[views] * scale[:, None],
        "world_from_camera": clip.world_from_camera[views],
        "metric": np.array(clip.metric),
    }


def batch_from_clip(clip: Clip, views: np.ndarray, size: tuple[int, int]) -> Batch:
    """Some views of a clip as one set, resized to cover (height, width) and cut to its middle."""
    cover = covering(clip.images.shape[1:3], size)
    arrays = resize_clip(clip, views, cover)
    pool = with_unknown({key: torch.from_numpy(values)[None] for key, values in arrays.items()})
    batch = batch_from_pool(pool, np.zeros(1, int), np.arange(len(views))[None])
    teachers = {
        name: crop_teacher(
            torch.from_numpy(features[views])[None],
            size[0] / cover[0], size[1] / cover[1],
            (size[0] // TEACHER_STRIDE, size[1] // TEACHER_STRIDE),
        )
        for name, features in clip.teachers.items()
    }  # fmt: skip
    return replace(crop(batch, *size), teachers=teachers)


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
