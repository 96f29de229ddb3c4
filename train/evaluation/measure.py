"""Every metric of a network and of what needs no network, gathered over clips one by one."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from data.rooms import PART_NAMES, WHOLE_NAMES
from ffsplat.codebook import rows_of_level
from ffsplat.errors import UsageError
from ffsplat.merge import to_scene
from ffsplat.model import FFSplat
from ffsplat.refine import refine_cameras
from ffsplat.types import Codebook
from train.batches import Batch
from train.clips import batch_from_clip
from train.evaluation import geometry, meaning, novel
from train.evaluation.baselines import Statistics, clip_statistics
from train.evaluation.clips import (
    Clips,
    choose_views,
    normalize,
    unlabelled,
    view_size,
    views_of,
)
from train.evaluation.tally import Tally
from train.losses import FeatureNetwork
from train.novel_view import rescale

logger = logging.getLogger(__name__)

STATISTICS_CLIPS = 64
"""Clips that the trivial baselines learn from, at most."""
REPORT_EVERY = 16
"""Clips between two lines of progress."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured: a network with its codebook, and what looks at its images.

    `features` is the network behind LPIPS, on the same device, if there is one.
    """

    network: FFSplat
    codebook: Codebook
    features: FeatureNetwork | None = None


@torch.inference_mode()
def measure(subject: Subject, clips: Clips, *, views: int = 2, size: int | None = None) -> Tally:
    """Every metric over all clips, of a network that is given `views` views of each.

    Images larger than `size` pixels are made smaller. What the trivial baselines say of each half
    of the clips they learn from the other half. Clips with fewer views are passed over. Raises
    UsageError for fewer than two clips, or if all are passed over.
    """
    if len(clips) < 2:
        raise UsageError("a table needs at least two clips")
    halves = [half.tolist() for half in np.array_split(np.arange(len(clips)), 2)]
    told = [clip_statistics(clips[i] for i in _spread(half)) for half in reversed(halves)]
    network = subject.network.eval()
    device = next(network.parameters()).device
    labelled = _names_rows_alike(subject.codebook)
    tally = Tally()
    for half, statistics in zip(halves, told, strict=True):
        for index in half:
            clip = clips[index]
            if len(clip.images) >= views:
                given, others = choose_views(len(clip.images), views)
                pixels = view_size(clip, size, network.config.patch)
                batch = normalize(batch_from_clip(clip, np.append(given, others), pixels))
                batch = batch if labelled else unlabelled(batch)
                measure_set(tally, subject, batch.to(device), views, statistics)
            tally.add("views", {"clip": torch.tensor([float(len(clip.images))])})
            if (index + 1) % REPORT_EVERY == 0:
                logger.info("%d of %d clips", index + 1, len(clips))
    if ("seconds", "network") not in tally.values:
        raise UsageError(f"no clip has {views} views", hint="--views takes fewer")
    return tally


def measure_set(
    tally: Tally, subject: Subject, batch: Batch, views: int, statistics: Statistics
) -> None:
    """Add one set to a tally; its first `views` views are given to the network."""
    given, others = batch.views(slice(0, views)), batch.views(slice(views, None))
    with _timed(tally, "network", batch):
        prediction = subject.network(given.images)
    with _timed(tally, "cameras", batch):
        refined = refine_cameras(prediction)
    geometry.add_depth(tally, prediction, given, statistics.depth)
    geometry.add_cameras(tally, prediction, refined, given)
    geometry.add_scale(tally, prediction, given, statistics.scale)
    meaning.add_pixels(tally, prediction, given, statistics)
    scaled = rescale(refined, geometry.alignment(refined, given))
    with _timed(tally, "scene", batch):
        scene = to_scene(scaled, views_of(given), subject.codebook)
    meaning.add_surface(tally, scene, batch, statistics)
    if others.images.shape[1]:
        meaning.add_splatted(tally, scene, others, statistics)
        images = novel.predicted_images(prediction, refined, scene, given, others)
        images |= novel.images_beside(subject.network, given, others)
        novel.compare(tally, images, others.images[0], subject.features)


def _spread(half: list[int]) -> list[int]:
    """Some numbers of a half, evenly spread."""
    places = np.linspace(0, len(half) - 1, min(STATISTICS_CLIPS, len(half)))
    return [half[place] for place in places.round().astype(int)]


def _names_rows_alike(codebook: Codebook) -> bool:
    """Whether the rows of a codebook are those that labels of clips count in."""
    names = (WHOLE_NAMES, PART_NAMES)
    return all(
        tuple(codebook.names[row] for row in rows_of_level(codebook, level)) == wanted
        for level, wanted in zip(("whole", "part"), names, strict=True)
    )


@contextmanager
def _timed(tally: Tally, stage: str, batch: Batch) -> Iterator[None]:
    """Add the seconds of a stage to a tally."""
    start = _now(batch)
    yield
    tally.add("seconds", {stage: torch.tensor([_now(batch) - start])})


def _now(batch: Batch) -> float:
    if batch.images.is_cuda:
        torch.cuda.synchronize(batch.images.device)
    return time.perf_counter()
