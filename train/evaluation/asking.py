"""How well each strategy finds things in rooms whose labels are known: the command and its table.

Two kinds of scenes: what a network sees, in words of the lexicon, and a teacher's features lifted
from exact geometry, spoilt as those of CLIP are (`label_features`), asked by texts as far from
images as those of CLIP. A text is asked for every label that a room has and for some that it lacks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from scipy.spatial import KDTree

from data.rooms import PART_NAMES, SPLITS, WHOLE_NAMES
from ffsplat import codes
from ffsplat.api import load
from ffsplat.codebook import code_gram
from ffsplat.embeddings import TextEmbedding
from ffsplat.geometry import transform_points, unproject
from ffsplat.merge import to_scene
from ffsplat.query import query
from ffsplat.refine import refine_cameras
from ffsplat.semantics.lift import label_pixels
from ffsplat.text import TextSpace
from ffsplat.types import Gaussians, Scene
from train.batches import Batch
from train.clips import batch_from_clip
from train.evaluation import geometry
from train.evaluation.clips import RoomClips, views_of
from train.evaluation.label_features import Corruption, label_features, label_vectors
from train.novel_view import rescale

SPACE = "labels"
WIDTH = 512
STRIDE = 8
"""Pixels from feature to feature."""

OWN, OTHER = 0.28, 0.18
"""Cosine of a text with images of its own label and of others, as CLIP has them: LAION-5B keeps
pairs from 0.28 (arXiv 2210.08402)."""

CANON_SPREAD = 0.02
"""Standard deviation of the cosine of a canonical phrase with images of different labels."""

ABSENT = 4
"""Labels that a room lacks and that are asked for all the same."""


class KnownTexts:
    """A text space that knows the labels alone."""

    name = SPACE

    def __init__(self, texts: tuple[TextEmbedding, ...]):
        self._texts = texts

    def encode(self, phrases: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """The vectors of some labels."""
        known = {text.text: text.vector for text in self._texts}
        return np.stack([known[phrase] for phrase in phrases])


Question = tuple[str | TextEmbedding, Bool[np.ndarray, " n"]]
"""A text, and the Gaussians that it means."""


@dataclass(frozen=True, eq=False)
class Room:
    """A scene with the labels of its Gaussians, and the texts that stand for labels."""

    scene: Scene
    whole: Int[np.ndarray, " n"]
    part: Int[np.ndarray, " n"]
    texts: tuple[str | TextEmbedding, ...]
    space: TextSpace | None = None

    def questions(self, random: np.random.Generator) -> Iterator[Question]:
        """Every label that is there, and some that are not."""
        present = np.unique(self.whole)
        absent = np.setdiff1d(np.arange(len(WHOLE_NAMES)), present)
        for label in [*present, *random.choice(absent, ABSENT, replace=False)]:
            yield self.texts[label], self.whole == label

    def parts(self) -> Iterator[Question]:
        """Every part of a thing that is there, such as the leg of the chair."""
        for whole in np.unique(self.whole):
            for part in np.unique(self.part[self.whole == whole]):
                words = f"{PART_NAMES[part]} of the {WHOLE_NAMES[whole]}"
                if PART_NAMES[part] != "surface":
                    yield words, (self.whole == whole) & (self.part == part)


WAYS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "words": {
        "lexicon": ("lexicon", {}),
        "cosine": ("cosine", {}),
        "cosine 0.25": ("cosine", {"threshold": 0.25}),
        "cosine 0.5": ("cosine", {"threshold": 0.5}),
        "cosine 0.25, whole": ("cosine", {"threshold": 0.25, "level": "whole"}),
        "cosine 0.5, whole": ("cosine", {"threshold": 0.5, "level": "whole"}),
        "softmax": ("softmax", {"labels": WHOLE_NAMES}),
        "two-step": ("two-step", {}),
        "two-step, best region": ("two-step", {"keep": "best"}),
        "two-step, by row": ("two-step", {"regions": "row", "level": "whole"}),
        "two-step, by feature": ("two-step", {"select": "feature"}),
        "hyperplane": ("hyperplane", {}),
        "growing": ("growing", {}),
        "growing, by code": ("growing", {"by": "code"}),
        "ensemble": ("ensemble", {"labels": WHOLE_NAMES}),
    },
    "parts": {
        "lexicon": ("lexicon", {}),
        "part-in-whole": ("part-in-whole", {}),
    },
    "features": {
        "cosine": ("cosine", {}),
        "relevancy": ("relevancy", {}),
        "relevancy 0.55": ("relevancy", {"threshold": 0.55}),
        "relevancy, range": ("relevancy", {"rule": "range"}),
        "softmax": ("softmax", {"labels": WHOLE_NAMES}),
        "two-step": ("two-step", {}),
        "two-step, by feature": ("two-step", {"select": "feature"}),
        "two-step, all rows": ("two-step", {"keep": "all"}),
        "two-step, best instance": ("two-step", {"regions": "instance"}),
        "hyperplane": ("hyperplane", {}),
        "hyperplane, hinge": ("hyperplane", {"loss": "hinge"}),
        "growing": ("growing", {}),
        "ensemble": ("ensemble", {"labels": WHOLE_NAMES}),
    },
}
"""Strategies and options that are compared, by the kind of scene and question."""


@torch.inference_mode()
def seen_room(batch: Batch, model: Any) -> Room:
    """What the network makes of a room; a Gaussian has the label of the nearest true point."""
    prediction = model.network(batch.images)
    refined = refine_cameras(prediction)
    scaled = rescale(refined, geometry.alignment(refined, batch))
    scene = to_scene(scaled, views_of(batch), model.codebook)
    nearest = KDTree(_points(batch)).query(scene.gaussians.means)[1]
    labels = (getattr(batch, level).numpy().ravel()[nearest] for level in ("whole", "part"))
    return Room(scene, *labels, texts=WHOLE_NAMES)


def lifted_room(batch: Batch, corruption: Corruption, random: np.random.Generator) -> Room:
    """Features of a teacher on the true surface, one Gaussian a pixel."""
    whole = batch.whole[0].numpy().astype(np.int64)
    points, shape = _points(batch), whole.shape
    vectors = label_vectors(len(WHOLE_NAMES), WIDTH, random)
    grid = shape[1] // STRIDE, shape[2] // STRIDE
    features = label_features(whole, vectors, grid, corruption, random)
    colors = batch.images[0].movedim(1, -1).numpy()
    meaning = label_pixels(
        features, points.reshape(*shape, 3), np.ones(shape, np.float32), np.ones(shape, bool),
        space=SPACE, colors=colors,
    )  # fmt: skip
    n, pairs = whole.size, meaning.ids.shape[-1]
    gaussians = Gaussians(
        means=points,
        scales=np.full((n, 3), 0.01, np.float32),
        quaternions_wxyz=np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1)),
        opacities=np.ones(n, np.float32),
        sh=np.zeros((n, 1, 3), np.float32),
    )
    weights = meaning.weights.reshape(-1, pairs)
    gram = code_gram(meaning.codebook)
    code = codes.from_pairs(meaning.ids.reshape(-1, pairs), weights, pairs, gram)
    scene = Scene(gaussians, code, meaning.instances.ravel(), meaning.codebook)
    part, texts = batch.part.numpy().ravel(), texts_of(vectors, random)
    return Room(scene, whole.ravel(), part, texts, KnownTexts(texts))


def texts_of(
    vectors: Float32[np.ndarray, "labels d"], random: np.random.Generator
) -> tuple[TextEmbedding, ...]:
    """A text for each label: OWN near its images and OTHER near those of others, the rest noise.

    Canonical phrases are OTHER near all, more or less.
    """
    common = _unit(vectors.mean(axis=0))
    along = float((vectors @ common).mean())
    own = vectors - (vectors @ common)[:, None] * common
    across = np.linalg.norm(own, axis=1).mean()
    own = _unit(own)
    spread = CANON_SPREAD / across * random.standard_normal((4, len(own))) @ own
    canon = _completed(OTHER / along * common + spread, random)
    vector = _completed((OWN - OTHER) / across * own + OTHER / along * common, random)
    return tuple(
        TextEmbedding(name, SPACE, one, canon)
        for name, one in zip(WHOLE_NAMES, vector, strict=True)
    )


def overlap(found: Bool[np.ndarray, " n"], meant: Bool[np.ndarray, " n"]) -> float:
    """Intersection over union."""
    return float((found & meant).sum() / max((found | meant).sum(), 1))


def measure(rooms: list[Room], kind: str, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Mean IoU over the labels that are there, and how often one that is not is found, by way."""
    overlaps: dict[str, list[float]] = {name: [] for name in WAYS[kind]}
    slips: dict[str, list[bool]] = {name: [] for name in WAYS[kind]}
    for room in rooms:
        random = np.random.default_rng(seed)
        for text, meant in room.parts() if kind == "parts" else room.questions(random):
            for name, (strategy, options) in WAYS[kind].items():
                answer = query(room.scene, text, strategy=strategy, space=room.space, **options)
                found = (answer.scores >= answer.threshold) & (answer.scores > 0)
                if meant.any():
                    overlaps[name].append(overlap(found, meant))
                else:
                    slips[name].append(bool(answer.hits))
    return {
        name: (float(np.mean(overlaps[name])), float(np.mean(slips[name] or [np.nan])))
        for name in WAYS[kind]
    }


def _points(batch: Batch) -> Float32[np.ndarray, "n 3"]:
    """The true surface of the only set of a batch."""
    points = unproject(batch.depth, batch.intrinsics).flatten(2, 3)
    return transform_points(batch.world_from_camera, points)[0].flatten(0, 1).float().numpy()


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _completed(rows: np.ndarray, random: np.random.Generator) -> Float32[np.ndarray, "t d"]:
    """Rows shorter than 1, made of length 1 by something that has nothing to do with them."""
    noise = random.standard_normal(rows.shape)
    noise -= (noise * rows).sum(-1, keepdims=True) / (rows**2).sum(-1, keepdims=True) * rows
    rest = np.sqrt(np.maximum(1 - (rows**2).sum(-1, keepdims=True), 0))
    return (rows + rest * _unit(noise)).astype(np.float32)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--split", type=click.Choice(list(SPLITS)), default="preview", show_default=True)
@click.option("--count", default=8, show_default=True, help="How many rooms.")
@click.option("--views", default=4, show_default=True)
@click.option("--size", default=128, show_default=True, help="Pixels along a side.")
@click.option("--model", default="ffsplat-tiny", show_default=True)
@click.option("--noise", default=1.0, show_default=True, help="Factor on noise of features.")
def main(split: str, count: int, views: int, size: int, model: str, noise: float) -> None:
    """Compare the strategies on rooms with exact labels."""
    loaded, usual = load(model, device="cpu"), Corruption()
    corruption = Corruption(
        usual.blur, usual.wrong, noise * usual.view_noise, noise * usual.cell_noise
    )
    seeds = SPLITS[split][:count]
    clips = RoomClips(seeds, views, size, None, torch.device("cpu"))
    batches = [batch_from_clip(clips[i], np.arange(views), (size, size)) for i in range(len(clips))]
    seen = [seen_room(batch, loaded) for batch in batches]
    lifted = [
        lifted_room(batch, corruption, np.random.default_rng(seed))
        for batch, seed in zip(batches, seeds, strict=True)
    ]
    for kind, rooms in (("words", seen), ("parts", seen), ("features", lifted)):
        print(f"\n| {kind}: {count} rooms of {split} | mIoU | found though absent |\n|---|---|---|")
        for name, (miou, slips) in measure(rooms, kind).items():
            print(f"| {name} | {miou:.3f} | {slips:.2f} |")


if __name__ == "__main__":
    main(prog_name="python -m train.evaluation.asking")
