"""Things that move with the camera, as a gripper, a frame or a thumb does, at the rim of photos."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from data.clip import UNKNOWN
from train.batches import Batch, upload

SIDE = (0.12, 0.4)
"""Height and width of an occluder over those of the image."""
NEARNESS = (0.06, 0.3)
"""Its depth over the mean depth of the set."""
MOST = 3
"""Occluders of a set."""
TWIN = 0.5
"""Share of the sets whose second occluder is the mirror image of the first, as fingers are."""
SOFTNESS = (0.1, 3.0)
"""Pixels over which an occluder, which is never in focus, fades in from its edge."""
BEYOND = 8
"""Pixels that it reaches beyond the rim, where it does not fade."""
LABELS = ("whole", "part", "identity")
GRAIN = 4
"""Cells of its texture along a side."""
TILE = 32
"""Pixels after which its fine grain repeats."""


@dataclass(frozen=True, eq=False)
class Occluders:
    """What covers n sets, k to a set at most; later ones lie over earlier ones."""

    boxes: Float32[np.ndarray, "n k 4"]
    """Top, left, height and width in whole pixels; the height of one that is absent is 0."""
    nearness: Float32[np.ndarray, "n k"]
    """Depth over the mean depth of the set."""
    coarse: Float32[np.ndarray, "n k 3 g g"]
    """Colours of the cells of a texture, between which pixels are interpolated."""
    fine: Float32[np.ndarray, "n k t t"]
    """Grey noise that is added to them, repeated over the image."""
    softness: Float32[np.ndarray, "n k"]
    """Pixels from the edge to full cover."""

    def twin(self, rows: Bool[np.ndarray, " n"], width: int) -> None:
        """Make the second of these sets' occluders the mirror image of the first."""
        for values in vars(self).values():
            values[rows, 1] = values[rows, 0]
        self.boxes[rows, 1, 1] = width - self.boxes[rows, 0, 1] - self.boxes[rows, 0, 3]


def occlude(
    batch: Batch, share: float, own: np.ndarray, sets: int, random: np.random.Generator
) -> Batch:
    """Cover parts of all views of some sets, `share` of them, by the same near rectangles.

    They have a depth where the set has one, and no label. `own` says which of the `sets` sets of a
    step these are: a set changes in the same way whoever computes it. Nothing here waits for the
    device of the batch, and only what is covered is computed there.
    """
    chosen = random.random(sets) < share
    seeds = random.integers(2**62, size=sets)
    rows = np.flatnonzero(chosen[own])
    if not len(rows):
        return batch
    drawn = _draw(seeds[own[rows]], (batch.images.shape[-2], batch.images.shape[-1]))
    picked = upload(rows, batch.images.device)
    kept = {
        name: getattr(batch, name).index_select(0, picked) for name in ("images", "depth", *LABELS)
    }
    covered = cover(kept, drawn)
    changed = {name: getattr(batch, name).index_copy(0, picked, covered[name]) for name in covered}
    return replace(batch, **changed)


def _draw(seeds: np.ndarray, size: tuple[int, int]) -> Occluders:
    """The occluders of sets with these seeds, for images of (height, width) `size`."""
    spread = 3 + 3 * GRAIN**2
    counts, uniform, normal = [], [], []
    for seed in seeds:
        random = np.random.default_rng(seed)
        counts.append(random.integers(1, MOST + 1))
        uniform.append(random.random((MOST, 11), dtype=np.float32))
        normal.append(random.standard_normal((MOST, spread + TILE**2), dtype=np.float32))
    shares, noise = np.stack(uniform), np.stack(normal)
    present = np.arange(MOST) < np.array(counts)[:, None]
    colour = shares[..., 7, None] ** 3 + 0.1 * noise[..., :3]  # most are dark
    coarse = 0.1 * noise[..., 3:spread].reshape(*present.shape, 3, GRAIN, GRAIN)
    fine = noise[..., spread:].reshape(*present.shape, TILE, TILE)
    drawn = Occluders(
        boxes=_boxes(shares[..., :6], size) * present[..., None],
        nearness=_between(NEARNESS, shares[..., 6]),
        coarse=colour[..., None, None] + coarse,
        fine=0.06 * shares[..., 8, None, None] * fine,
        softness=_between(SOFTNESS, shares[..., 9]),
    )
    drawn.twin(shares[:, 0, 10] < TWIN, size[1])
    return drawn


def _between(
    ends: tuple[float, float], share: Float32[np.ndarray, "*s"]
) -> Float32[np.ndarray, "*s"]:
    return np.float32(ends[0]) + np.float32(ends[1] - ends[0]) * share


def _boxes(
    shares: Float32[np.ndarray, "n k 6"], size: tuple[int, int]
) -> Float32[np.ndarray, "n k 4"]:
    """Rectangles that touch the rim, by uniform random numbers: top, left, height, width."""
    sides = np.array(size, np.float32)
    lengths = np.maximum(1, np.rint(sides * _between(SIDE, shares[..., :2])))
    # A float32 below 1 may round up to 1 when it is multiplied.
    starts = np.minimum(np.floor(shares[..., 2:4] * (sides - lengths + 1)), sides - lengths)
    low = shares[..., 4, None] < 0.5
    moved = np.arange(2) == (shares[..., 5, None] < 0.5)
    starts = np.where(moved, np.where(low, -BEYOND, sides - lengths), starts)
    lengths = np.where(moved, lengths + BEYOND, lengths)
    return np.concatenate([starts, lengths], -1).astype(np.float32)


def cover(maps: dict[str, Tensor], drawn: Occluders) -> dict[str, Tensor]:
    """Images, depth and labels of sets, each covered by its occluders in all views."""
    height, width = maps["images"].shape[-2:]
    boxes, nearness, coarse, fine, softness = (
        upload(values, maps["images"].device) for values in vars(drawn).values()
    )
    down, right = _along(boxes[..., 0::2], height), _along(boxes[..., 1::2], width)
    inside = (down.abs() < 1)[..., :, None] & (right.abs() < 1)[..., None, :]
    # Of those that cover a pixel only the last is seen: none follows it there.
    seen = inside & (inside.flip(1).cumsum(1).flip(1) == 1)
    covered = inside.any(1)[:, None]
    texture = _textures(coarse, fine, down, right)
    images, opacity = maps["images"], _opacity(boxes, softness, down, right)
    for one in range(opacity.shape[1]):
        images = torch.lerp(images, texture[:, None, one], opacity[:, None, one, None])
    near = (seen * nearness[..., None, None]).sum(1)[:, None] * _mean_depth(maps["depth"])
    return {
        "images": images,
        "depth": torch.where(covered, near, maps["depth"]),
        **{name: torch.where(covered, UNKNOWN, maps[name]) for name in LABELS},
    }


def _along(spans: Float[Tensor, "n k 2"], side: int) -> Float[Tensor, "n k side"]:
    """Where pixel centres lie on spans (start, length): -1 at the start, 1 at the end.

    On an empty span none lies between the two.
    """
    start, length = (part[..., None] for part in spans.unbind(-1))
    centres = torch.arange(side, device=spans.device) + 0.5
    inner = 2 * (centres - start) / length.clamp(min=1) - 1
    return torch.where(length > 0, inner, 2.0)


def _opacity(
    boxes: Float[Tensor, "n k 4"],
    softness: Float[Tensor, "n k"],
    down: Float[Tensor, "n k h"],
    right: Float[Tensor, "n k w"],
) -> Float[Tensor, "n k h w"]:
    """How much occluders hide of each pixel: 0 beside them, rising from their edge to 1."""
    rows, columns = (
        (1 - along.abs()) * length[..., None] / 2
        for along, length in ((down, boxes[..., 2]), (right, boxes[..., 3]))
    )
    inside = torch.minimum(rows[..., :, None], columns[..., None, :])
    return (inside / softness[..., None, None]).clamp(0, 1)


def _textures(
    coarse: Float[Tensor, "n k 3 g g"],
    fine: Float[Tensor, "n k t t"],
    down: Float[Tensor, "n k h"],
    right: Float[Tensor, "n k w"],
) -> Float[Tensor, "n k 3 h w"]:
    """The colours that occluders have at all pixels of the image, also beside them."""
    height, width = down.shape[-1], right.shape[-1]
    where = torch.broadcast_tensors(right[..., None, :], down[..., :, None])
    grid = torch.stack(where, -1).flatten(0, 1)
    smooth = F.grid_sample(
        coarse.flatten(0, 1), grid, align_corners=False, padding_mode="border"
    ).unflatten(0, coarse.shape[:2])
    tiles = (1, 1, -(-height // TILE), -(-width // TILE))
    grain = fine.repeat(tiles)[..., :height, :width]
    return (smooth + grain[:, :, None]).clamp(0, 1)


def _mean_depth(depth: Float[Tensor, "n v h w"]) -> Float[Tensor, "n 1 1 1"]:
    """The mean over the pixels of a set that have a depth; 0 where none has."""
    known: Bool[Tensor, "n v h w"] = depth > 0
    axes = (1, 2, 3)
    total = torch.where(known, depth, 0).sum(axes, keepdim=True)
    return total / known.sum(axes, keepdim=True).clamp(min=1)
