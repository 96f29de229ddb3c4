"""The numba kernel as a differentiable torch function, its tiles dealt to a pool of threads."""

import functools
import itertools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ffsplat.errors import MemoryLimit
from ffsplat.render import kernel
from ffsplat.render.projection import Projected

_Result = TypeVar("_Result")

_MOST_PAIRS = 1 << 29  # 2 GB of tile lists
_PAIRS_PER_CHUNK = 1 << 14  # (tile, splat) pairs per unit of work: gradient slots stay in cache


def blend(
    projected: Projected,
    opacities: Float[Tensor, " n"],
    features: Float[Tensor, "n c"],
    width: int,
    height: int,
) -> tuple[Float[Tensor, "v h w c"], Float[Tensor, "v h w"], Float[Tensor, "v h w"]]:
    """Accumulated features, accumulated z-depth and opacity of each view, in float32.

    Differentiable (once) with respect to everything but the extents. Uses as many threads as
    torch (`torch.set_num_threads`); results do not depend on their number.
    """
    inputs = (projected.means2d, projected.conics, projected.depths, opacities, features)
    device = features.device
    image, depth, transmittance = _Blend.apply(
        *(tensor.to("cpu", torch.float32) for tensor in inputs),
        projected.extents.detach().to("cpu", torch.float32),
        (width, height),
    )
    return image.to(device), depth.to(device), 1 - transmittance.to(device)


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means2d, conics, depths, opacities, features, extents, size):
        """Returns features, depth and transmittance, each (v, h, w, ...)."""
        views, channels = len(depths), features.shape[1]
        shape = (views, size[1], size[0])
        flat = _flat(features)
        binned, sources = bin_splats(means2d, conics, depths, opacities, extents, size)
        image = np.zeros((*shape, channels), np.float32)
        depth = np.zeros(shape, np.float32)
        transmittance = np.ones(shape, np.float32)
        last = np.zeros(shape, np.int32)
        outputs = [array.reshape(-1) for array in (image, depth, transmittance, last)]

        def work(tiles: tuple[int, int]) -> None:
            kernel.forward_tiles(tiles, size, binned, flat, channels, *outputs)

        for _ in _deal(work, _chunks(binned[0])):
            pass
        ctx.saved = (size, binned, sources, flat, tuple(outputs[2:]), views, features.shape)
        return tuple(torch.from_numpy(array) for array in (image, depth, transmittance))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of every pair in slots of their own, summed in one fixed order: no atomics."""
        size, binned, sources, flat, blended, views, (count, channels) = ctx.saved
        gradients = tuple(_flat(grad) for grad in grads)
        grad_splats = np.zeros((views * count, kernel.SPLAT_WIDTH), np.float32)
        grad_features = np.zeros((count, channels), np.float32)
        starts = binned[0]

        def work(tiles: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
            pairs = starts[tiles[1]] - starts[tiles[0]]
            slots = np.zeros((pairs, kernel.SPLAT_WIDTH + channels), np.float32)
            kernel.backward_tiles(
                tiles, size, binned, flat, channels, blended, gradients, slots.reshape(-1)
            )
            return tiles, slots

        for tiles, slots in _deal(work, _chunks(starts)):
            kernel.add_slots(tiles, binned, sources, slots, grad_splats, grad_features)
        grad = torch.from_numpy(grad_splats).reshape(views, count, kernel.SPLAT_WIDTH)
        shape = (grad[..., :2], grad[..., 2:5], grad[..., 6], grad[..., 5].sum(0))
        return *shape, torch.from_numpy(grad_features), None, None


def bin_splats(
    means2d, conics, depths, opacities, extents, size
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Tile lists (starts, pairs, splats, boxes, Gaussians) and flat indices of visible splats."""
    views, count = depths.shape
    means2d, extents = (_flat(pair).reshape(-1, 2) for pair in (means2d, extents))
    conics = _flat(conics).reshape(-1, 3)
    depths, opacities = _flat(depths), _flat(opacities)
    keys = np.sort(kernel.find_visible(means2d, extents, depths, *size))
    sources = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    splats, boxes = kernel.pack_splats(sources, means2d, conics, depths, extents, opacities, *size)
    starts = kernel.count_pairs(sources, boxes, count, views, *size)
    if starts[-1] > _MOST_PAIRS:
        raise MemoryLimit(
            f"{len(sources)} Gaussians cover {starts[-1]} tiles: too many to draw",
            hint="move the camera back, or draw a smaller image",
        )
    pairs = kernel.fill_pairs(starts, sources, boxes, count, *size)
    return (starts, pairs, splats, boxes, sources % max(count, 1)), sources


def _flat(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy()).reshape(-1)


def _chunks(starts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of tiles with about equally many pairs."""
    count = 1 + starts[-1] // _PAIRS_PER_CHUNK
    cuts = np.searchsorted(starts, np.arange(1, count) * (starts[-1] / count))
    bounds = np.unique(np.concatenate([[0], cuts, [len(starts) - 1]])).tolist()
    return list(itertools.pairwise(bounds))


def _deal(
    work: Callable[[tuple[int, int]], _Result], chunks: list[tuple[int, int]]
) -> Iterable[_Result]:
    """The results of `work` in the order of `chunks`."""
    threads = torch.get_num_threads()
    if threads == 1 or len(chunks) == 1:
        return map(work, chunks)
    return _pool(os.getpid(), threads).map(work, chunks)


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool a process: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"ffsplat-render-{process}")
