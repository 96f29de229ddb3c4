"""What is left to a network: unseen views from Gaussians of exact depth and exact cameras.

Of a clip of 2n - 1 views every second one is given, so each of the others lies between two inputs.
What these views lose is lost by the shapes of the Gaussians, their merging and the renderer, and by
what no two photos share (noise, exposure, gloss); a network's errors come on top.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data.rooms import SPLITS, load_atlas
from ffsplat.consistency import agreement
from ffsplat.geometry import invert_rigid, project, transform_points, unproject
from ffsplat.merge import WorldGaussians, gaussians_from_prediction, to_scene
from ffsplat.render import render
from train import metrics
from train.batches import Batch
from train.clips import batch_from_clip
from train.evaluation.baselines import exact_prediction, nearest_view
from train.evaluation.clips import RoomClips, cameras_of, set_unit, views_of
from train.novel_view import splat

Images = Float[Tensor, "n 3 h w"]

SEEN = 0.02
"""Difference of log depth up to which an input view sees the surface of an unseen one."""


def split(batch: Batch) -> tuple[Batch, Batch]:
    """Every second view is given, from the first to the last; the others lie between them."""
    views = np.arange(batch.images.shape[1])

    def some(start: int) -> Batch:
        return batch.map(lambda tensor: tensor[:, views[start::2]] if tensor.ndim > 1 else tensor)

    return some(0), some(1)


def drawn(given: Batch, others: Batch) -> Mapping[str, Images]:
    """The unseen views as three kinds of Gaussians show them, over the mean colour of the given.

    All pixels of all views; those that the views agree on; and these as `infer` would save them.
    """
    prediction = exact_prediction(given)
    background = given.images.mean((1, 3, 4))
    views = views_of(given)
    kept = given.depth > 0
    agreed = agreement(prediction, kept)
    shown = replace(prediction, colors=agreed.colors[None], opacities=agreed.opacities[None])
    world = gaussians_from_prediction(shown)
    rows = agreed.kept.flatten().nonzero()[:, 0]
    scene = to_scene(prediction, views, None, prune_edges=False)
    saved = render(scene, cameras_of(others), background=background[0].tolist())
    return {
        "every pixel": _splat(gaussians_from_prediction(prediction), others, background),
        "merged": _splat(WorldGaussians(*(v[:, rows] for v in world)), others, background),
        "saved scene": torch.from_numpy(saved).movedim(-1, 1).to(given.images),
    }


def seen(given: Batch, others: Batch) -> Bool[Tensor, "n h w"]:
    """Pixels of the unseen views whose surface point lies in a given view, unhidden."""
    n, h, w = others.depth.shape[1:]
    points = unproject(others.depth[0], others.intrinsics[0]).flatten(1, 2)
    points = transform_points(others.world_from_camera[0], points).flatten(0, 1)
    found = torch.zeros(n * h * w, dtype=torch.bool, device=points.device)
    views = zip(given.depth[0], given.intrinsics[0], given.world_from_camera[0], strict=True)
    for depth, intrinsics, pose in views:
        local = transform_points(invert_rigid(pose), points)
        x, y = project(local, intrinsics).unbind(-1)
        z = local[:, 2]
        inside = (z > 0) & (x >= 0) & (x < w) & (y >= 0) & (y < h)
        there = depth[y.clamp(0, h - 1).long(), x.clamp(0, w - 1).long()]
        found |= inside & ((there / z.clamp(min=1e-6)).log().abs() <= SEEN)
    return found.view(n, h, w)


def nearness(given: Batch, others: Batch) -> Float[Tensor, "n 2"]:
    """Of each unseen view to the nearest input: distance over the mean depth, and degrees."""
    unit = set_unit(given)
    rows = []
    for pose in others.world_from_camera.unbind(1):
        index = nearest_view(given.world_from_camera, pose, unit)
        nearest = given.world_from_camera[0, index]
        distance = (nearest[:, :3, 3] - pose[:, :3, 3]).norm(dim=-1) / unit
        cosine = (nearest[:, :3, 2] * pose[:, :3, 2]).sum(-1).clamp(-1, 1)
        rows.append(torch.cat([distance, torch.rad2deg(cosine.acos())]))
    return torch.stack(rows)


def masked_psnr(images: Images, truth: Images, mask: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """`metrics.psnr` over the masked pixels only."""
    error = (images.clamp(0, 1) - truth).square().mean(1)
    mean = (error * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
    return -10 * mean.clamp(min=1e-10).log10()


def _splat(gaussians: WorldGaussians, others: Batch, background: Float[Tensor, "1 3"]) -> Images:
    size = (others.images.shape[-2], others.images.shape[-1])
    cameras = zip(others.world_from_camera.unbind(1), others.intrinsics.unbind(1), strict=True)
    return torch.cat([splat(gaussians, *camera, size, background) for camera in cameras])


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rooms", "first", type=int, help="First seed.  [default: that of heldout_v2]")
@click.option("--count", default=64, show_default=True, help="How many rooms.")
@click.option("--views", default=5, show_default=True, help="Views that are given.")
@click.option("--size", default=128, show_default=True, help="Pixels along a side.")
@click.option("--textures", type=click.Path(exists=True, path_type=Path), help="Photo tiles.")
@torch.inference_mode()
def main(first: int | None, count: int, views: int, size: int, textures: Path | None) -> None:
    """Measure geometric Gaussians of exact depth at views between those that are given."""
    first = SPLITS["heldout_v2"].start if first is None else first
    atlas = None if textures is None else load_atlas(textures)
    seeds = range(first, first + count)
    clips = RoomClips(seeds, 2 * views - 1, size, atlas, torch.device("cpu"))
    everywhere: dict[str, list[Tensor]] = {}
    where_seen: dict[str, list[Tensor]] = {}
    near, covered = [], []
    for index in range(len(clips)):
        batch = batch_from_clip(clips[index], np.arange(2 * views - 1), (size, size))
        given, others = split(batch)
        mask, truth = seen(given, others), others.images[0]
        for name, images in drawn(given, others).items():
            everywhere.setdefault(name, []).append(metrics.psnr(images, truth))
            where_seen.setdefault(name, []).append(masked_psnr(images, truth, mask))
        near.append(nearness(given, others))
        covered.append(mask.float().mean((1, 2)))
    distance, angle = torch.cat(near).median(dim=0).values.tolist()
    print("| Gaussians | PSNR, dB | where an input sees the surface |\n|---|---|---|")
    for name in everywhere:
        means = (torch.cat(values[name]).mean() for values in (everywhere, where_seen))
        print(f"| {name} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    print(
        f"\nRooms of the seeds {first} to {seeds[-1]}, {size} pixels; {views} views given, "
        f"{views - 1} between them unseen; means over unseen views. The nearest input is "
        f"{distance:.3f} of the mean depth and {angle:.1f} degrees away (medians); the inputs see "
        f"{torch.cat(covered).mean():.1%} of the pixels, the others count as they are drawn."
    )


if __name__ == "__main__":
    main(prog_name="python -m train.evaluation.ceiling")
