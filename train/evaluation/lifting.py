"""How good the lifting of 2-D features is, beside an exact truth: the command and its table.

Rooms have exact labels, depths and cameras. A teacher's features are made from the labels and
spoilt (`label_features`); what every view says on its own is compared with what all say together.
"""

from dataclasses import dataclass

import click
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int, Int32
from torch import Tensor

from data.rooms import SPLITS, WHOLE_NAMES, RoomBatch, render_rooms
from ffsplat.api import load
from ffsplat.geometry import transform_points, unproject
from ffsplat.prediction import PixelMeaning
from ffsplat.pruning import confidences
from ffsplat.refine import refine_cameras
from ffsplat.semantics.lift import label_pixels
from train import metrics
from train.evaluation.label_features import Corruption, label_features, label_vectors

SPACE = "labels"
WIDTH = 512
"""Numbers in a feature."""

WAYS = {
    "lifted": {"colors": False, "masks": False, "hard": False},
    "lifted, with colours": {"colors": True, "masks": False, "hard": False},
    "lifted, with masks": {"colors": True, "masks": True, "hard": False},
    "hard IDs": {"colors": True, "masks": False, "hard": True},
    "hard IDs, with masks": {"colors": True, "masks": True, "hard": True},
}
"""Ways of `label_pixels` that are compared; the masks are the exact objects of each view."""


@dataclass(frozen=True, eq=False)
class World:
    """What is known, or predicted, of where the pixels of a room lie."""

    points: Float32[np.ndarray, "v h w 3"]
    confidence: Float32[np.ndarray, "v h w"]
    valid: Bool[np.ndarray, "v h w"]


def exact_world(room: RoomBatch) -> World:
    """The true surface of one room."""
    return World(
        _points(room.depth, room.intrinsics, room.world_from_camera),
        np.ones(room.depth.shape[1:], np.float32),
        np.ones(room.depth.shape[1:], bool),
    )


@torch.inference_mode()
def predicted_world(room: RoomBatch, network: torch.nn.Module) -> World:
    """The surface that a network sees in the photos of a room."""
    prediction = refine_cameras(network(room.image.movedim(-1, 2)))
    points = _points(prediction.depth, prediction.intrinsics, prediction.world_from_camera)
    confidence = confidences(prediction)[0].numpy()
    return World(points, confidence, np.asarray(np.isfinite(points).all(axis=-1)))


def _points(depth: Tensor, intrinsics: Tensor, world_from_camera: Tensor) -> np.ndarray:
    """World points (v, h, w, 3) of the only set of a batch."""
    points = transform_points(world_from_camera, unproject(depth, intrinsics).flatten(2, 3))
    return points[0].unflatten(1, depth.shape[-2:]).float().numpy()


def mean_iou(guess: Int[np.ndarray, "*s"], truth: Int[np.ndarray, "*s"]) -> float:
    """Intersection over union, averaged over the labels that occur in the truth."""
    return metrics.mean_iou(_counts(guess, truth))


def single_view(
    features: Float32[np.ndarray, "v y x d"],
    vectors: Float32[np.ndarray, "labels d"],
    size: tuple[int, int],
) -> Int[np.ndarray, "v h w"]:
    """The label of each pixel by its view alone: scores, enlarged bilinearly, then the best."""
    scores = torch.from_numpy(features @ vectors.T).permute(0, 3, 1, 2)
    return F.interpolate(scores, size=size, mode="bilinear").argmax(1).numpy()


def lifted_labels(
    meaning: PixelMeaning, vectors: Float32[np.ndarray, "labels d"]
) -> Int[np.ndarray, "v h w"]:
    """The label that each pixel's code scores highest; no label is the last, never right."""
    rows = meaning.codebook.spaces[SPACE].astype(np.float32) @ vectors.T
    padded = np.concatenate([rows, np.zeros((1, len(vectors)), np.float32)])
    best = np.empty(meaning.ids.shape[:3], np.int64)
    for view in range(len(best)):
        scores = np.einsum("hwk,hwkt->hwt", meaning.weights[view], padded[meaning.ids[view]])
        best[view] = np.where(meaning.ids[view, ..., 0] < 0, len(vectors), scores.argmax(-1))
    return best


def object_masks(room: RoomBatch) -> Int32[np.ndarray, "v h w"]:
    """Exact masks of one room, numbered anew in each view as a network for masks would.

    A mask is an object, or all walls, the floor or the ceiling.
    """
    things = room.instance[0].numpy().astype(np.int64) * 256 + room.whole[0].numpy()
    masks = np.empty(things.shape, np.int32)
    for view, numbers in enumerate(things):
        masks[view] = np.unique(-numbers, return_inverse=True)[1].reshape(numbers.shape)
    return masks


def compare(
    room: RoomBatch, world: World, grid: tuple[int, int], corruption: Corruption, seed: int
) -> dict[str, Int[np.ndarray, "v h w"]]:
    """The label of each pixel of one room, from each view alone and by each of WAYS."""
    random = np.random.default_rng(seed)
    labels = room.whole[0].numpy().astype(np.int64)
    vectors = label_vectors(len(WHOLE_NAMES), WIDTH, random)
    features = label_features(labels, vectors, grid, corruption, random)
    colors, masks = room.image[0].numpy(), object_masks(room)
    guesses = {"each view alone": single_view(features, vectors, labels.shape[1:])}
    for name, way in WAYS.items():
        meaning = label_pixels(
            features, world.points, world.confidence, world.valid, space=SPACE,
            colors=colors if way["colors"] else None, masks=masks if way["masks"] else None,
            hard=way["hard"],
        )  # fmt: skip
        guesses[name] = lifted_labels(meaning, vectors)
    return guesses


def pooled(counts: Tensor) -> tuple[float, float, float]:
    """Mean IoU of all views, of the worst and of the best view, from counts (v, labels, labels)."""
    views = [metrics.mean_iou(one) for one in counts]
    return metrics.mean_iou(counts.sum(0)), min(views), max(views)


def _counts(guess: np.ndarray, truth: np.ndarray) -> Tensor:
    labels = len(WHOLE_NAMES) + 1
    return metrics.confusion(torch.from_numpy(guess), torch.from_numpy(truth), labels)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rooms", "first", type=int, help="First seed.  [default: that of heldout_v2]")
@click.option("--count", default=16, show_default=True, help="How many rooms.")
@click.option("--views", default=8, show_default=True)
@click.option("--size", nargs=2, default=(378, 504), show_default=True, help="Height and width.")
@click.option("--stride", default=14, show_default=True, help="Pixels from feature to feature.")
@click.option("--geometry", metavar="MODEL", help="A network's depth and cameras, not the true.")
@click.option("--wrong", default=Corruption.wrong, show_default=True, help="Share of wrong cells.")
@click.option("--noise", default=1.0, show_default=True, help="Factor on both kinds of noise.")
def main(
    first: int | None, count: int, views: int, size: tuple[int, int], stride: int,
    geometry: str | None, wrong: float, noise: float,
) -> None:  # fmt: skip
    """Compare what views say alone with what they say together, on rooms with exact labels."""
    usual = Corruption()
    corruption = Corruption(usual.blur, wrong, noise * usual.view_noise, noise * usual.cell_noise)
    first = SPLITS["heldout_v2"].start if first is None else first
    network = None if geometry is None else load(geometry, device="cpu").network
    counts: dict[str, Tensor] = {}
    for seed in range(first, first + count):
        room = render_rooms([seed], views, *size)
        world = exact_world(room) if network is None else predicted_world(room, network)
        grid = size[0] // stride, size[1] // stride
        truth = room.whole[0].numpy().astype(np.int64)
        for name, guess in compare(room, world, grid, corruption, seed).items():
            both = torch.stack([_counts(*pair) for pair in zip(guess, truth, strict=True)])
            counts[name] = counts.get(name, 0) + both
    print(f"| mIoU, {count} rooms from {first} | all views | worst view | best view |")
    print("|---|---|---|---|")
    for name, total in counts.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in pooled(total)) + " |")


if __name__ == "__main__":
    main(prog_name="python -m train.evaluation.lifting")
