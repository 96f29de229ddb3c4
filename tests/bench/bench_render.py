"""CPU renderer against a tiled renderer in pure torch: `python -m tests.bench.bench_render`.

Prints one line a case: milliseconds of CPU time on one core (best of several runs), forward and
forward + backward, for the kernel and for the rival, in the same run.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ffsplat.render import rasterize
from ffsplat.render.projection import Projected, project

TILE = 8


def pixel_scene(side: int, channels: int) -> list[Tensor]:
    """Two views of side x side pixels of a wavy wall, one Gaussian a pixel, as a network gives."""
    generator = torch.Generator().manual_seed(0)
    v, u = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    means = []
    for shift in (-0.15, 0.15):
        x, y = (u.reshape(-1) + 0.5) / side - 0.5, (v.reshape(-1) + 0.5) / side - 0.5
        z = 2 + 0.3 * torch.sin(6 * x + 4 * y) + 0.01 * torch.randn(len(x), generator=generator)
        means.append(torch.stack([x * z + shift, y * z, z], dim=1))
    means = torch.cat(means)
    count = len(means)
    footprint = means[:, 2:] / side
    scales = footprint * (0.3 + 0.7 * torch.rand(count, 3, generator=generator))
    return _finish(means, scales, 0.3, channels, generator)


def blob_scene(count: int, side: int, channels: int) -> list[Tensor]:
    """Gaussians of 1 to 6 pixels anywhere in the view: many overlap, the image saturates."""
    generator = torch.Generator().manual_seed(0)
    z = 1 + 4 * torch.rand(count, generator=generator)
    xy = (torch.rand(count, 2, generator=generator) - 0.5) * z[:, None]
    scales = z[:, None] / side * (1 + 5 * torch.rand(count, 3, generator=generator))
    return _finish(torch.cat([xy, z[:, None]], dim=1), scales, 0.05, channels, generator)


def _finish(
    means: Tensor, scales: Tensor, faintest: float, channels: int, generator: torch.Generator
) -> list[Tensor]:
    count = len(means)
    quaternions = torch.randn(count, 4, generator=generator)
    opacities = faintest + (1 - faintest) * torch.rand(count, generator=generator)
    features = torch.rand(count, channels, generator=generator)
    return [means, quaternions, scales, opacities, features]


def torch_tiles(
    scene: list[Tensor], pose: Tensor, intrinsics: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """The rival: padded lists per tile, tiles of similar length blended together by autograd."""
    projected = project(*scene[:4], pose, intrinsics, width, height)
    lists = _tile_lists(projected, width, height)
    channels = torch.cat([scene[4], projected.depths[0, :, None]], dim=1)
    y, x = torch.meshgrid(torch.arange(TILE), torch.arange(TILE), indexing="ij")
    local = torch.stack([x, y], -1).reshape(-1, 2) + 0.5
    image = channels.new_zeros(height // TILE, width // TILE, TILE * TILE, channels.shape[1])
    opacity = channels.new_zeros(height // TILE, width // TILE, TILE * TILE)
    corners = sorted(lists, key=lambda corner: len(lists[corner]))
    for start in range(0, len(corners), 32):
        group = corners[start : start + 32]
        index = torch.nn.utils.rnn.pad_sequence(
            [lists[corner] for corner in group], batch_first=True, padding_value=-1
        )
        rows, columns = (torch.tensor(axis) for axis in zip(*group, strict=True))
        pixels = local + TILE * torch.stack([columns, rows], -1)[:, None]
        offsets = pixels[:, None] - projected.means2d[0][index][:, :, None]
        a, b, c = projected.conics[0][index].unbind(-1)
        dx, dy = offsets.unbind(-1)
        power = (a[..., None] * dx + 2 * b[..., None] * dy) * dx + c[..., None] * dy * dy
        opaque = torch.where(index < 0, 0, scene[3][index])
        alpha = (opaque[..., None] * torch.exp(-power / 2)).clamp_max(0.999)
        alpha = torch.where(alpha >= 1 / 255, alpha, 0)
        light = torch.cumprod(1 - alpha, dim=1)
        weights = alpha * torch.cat([torch.ones_like(light[:, :1]), light[:, :-1]], dim=1)
        image[rows, columns] = torch.einsum("tkp,tkc->tpc", weights, channels[index])
        opacity[rows, columns] = 1 - light[:, -1]
    shape = (height // TILE, width // TILE, TILE, TILE, -1)
    image, opacity = image.reshape(shape), opacity.reshape(shape)
    return (part.transpose(1, 2).reshape(height, width, -1) for part in (image, opacity))


def _tile_lists(projected: Projected, width: int, height: int) -> dict[tuple[int, int], Tensor]:
    """Depth-sorted Gaussians of each tile that has any."""
    order = torch.argsort(projected.depths[0])
    order = order[projected.extents[0, order, 0] > 0]
    low = projected.means2d[0, order] - projected.extents[0, order]
    high = projected.means2d[0, order] + projected.extents[0, order]
    lists = {}
    for row in range(height // TILE):
        near = (low[:, 1] < (row + 1) * TILE) & (high[:, 1] > row * TILE)
        low_x, high_x, members = low[near, 0], high[near, 0], order[near]
        for column in range(width // TILE):
            inside = members[(low_x < (column + 1) * TILE) & (high_x > column * TILE)]
            if len(inside):
                lists[row, column] = inside
    return lists


def milliseconds(function: Callable[[], object], runs: int) -> float:
    """Least CPU time of a run, after one to warm up."""
    best = math.inf
    function()
    for _ in range(runs):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return 1000 * best


def measure(scene: list[Tensor], side: int, rival: bool, runs: int) -> tuple[float, float]:
    """Forward, and forward + backward with a gradient for every input."""
    pose = torch.eye(4)[None]
    intrinsics = torch.tensor([[[side, 0, side / 2], [0, side, side / 2], [0, 0, 1]]]).float()
    leaves = [tensor.clone().requires_grad_() for tensor in scene]

    def draw(inputs: list[Tensor]) -> Tensor:
        if rival:
            image, opacity = torch_tiles(inputs, pose, intrinsics, side, side)
            return image.sum() + opacity.sum()
        result = rasterize(*inputs, pose, intrinsics, side, side, backend="cpu")
        return result.features.sum() + result.depth.sum() + result.opacity.sum()

    def forward() -> None:
        with torch.no_grad():
            draw(scene)

    return milliseconds(forward, runs), milliseconds(lambda: draw(leaves).backward(), runs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-rival", action="store_true", help="skip the pure torch renderer")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = {
        "100 k pixel-aligned, 256 px, RGB + depth": (pixel_scene(224, 3), 256),
        "100 k pixel-aligned, 256 px, + 64 channels": (pixel_scene(224, 67), 256),
        "100 k blobs, 256 px, RGB + depth": (blob_scene(100_000, 256, 3), 256),
        "8 k pixel-aligned, 64 px, RGB + depth": (pixel_scene(64, 3), 64),
    }
    print(
        f"{'ms of CPU time, one core':44}{'forward':>10}{'+ backward':>12}{'  torch':>10}{'':>12}"
    )
    for name, (scene, side) in cases.items():
        line = "".join(f"{value:>11.1f}" for value in measure(scene, side, False, options.runs))
        if not options.no_rival:
            line += "".join(f"{value:>11.1f}" for value in measure(scene, side, True, 1))
        print(f"{name:44}{line}")


if __name__ == "__main__":
    main()
