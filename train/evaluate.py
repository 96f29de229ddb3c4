"""The table of a model card: a network on held-out rooms, beside what needs no network."""

import json
import logging
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from data.rooms import load_atlas, write_pool
from ffsplat.hub import load_checkpoint, resolve
from ffsplat.io.atomic import atomic_output
from ffsplat.model import FFSplat
from ffsplat.nn.heads import ERROR_PRIOR
from train import metrics
from train.measure import Tally, add_depth, batches, choose_views, measure
from train.rooms import Pool, read_pool
from train.table import Row, as_json, markdown

logger = logging.getLogger(__name__)

SPLIT = "heldout_v1"
MIN_CLIP = 4
"""Views of a rendered clip, at least; more views of a set lengthen it."""


@torch.inference_mode()
def quick_validation(network: FFSplat, pool: Pool, sets: int = 64) -> dict[str, float]:
    """A few metrics on the two ends of the first clips of a pool, in seconds, by name.

    Depth is aligned by its median; the rotation is the regressed one, its mean in degrees.
    """
    was_training = network.training
    network.eval()
    tally = Tally()
    scenes = np.arange(min(sets, len(pool["depth"])))
    views, _ = choose_views(pool["depth"].shape[1], 2)
    for batch in batches(pool, scenes, views, next(network.parameters()).device):
        prediction = network(batch.images)
        add_depth(tally, "network", prediction.depth, batch)
        truth, guess = batch.world_from_camera, prediction.world_from_camera
        tally.add("rotation", {"network": metrics.rotation_error(guess[:, 1], truth[:, 1])})
        logits = prediction.whole_logits
        tally.add_labels("whole", "network", logits.argmax(-1), batch.whole, logits.shape[-1])
    network.train(was_training)
    return {
        **{name: tally.mean(name, "network") for name in ("absrel", "delta1", "rotation")},
        "whole_accuracy": metrics.accuracy(tally.counts["whole", "network"]),
        "whole_miou": metrics.mean_iou(tally.counts["whole", "network"]),
    }


def table(tally: Tally) -> list[Row]:
    """The rows of a model card from what was measured."""
    sift = "SIFT + five points"
    rows = [
        _row(tally, "AbsRel", "", "absrel", ("constant depth", "mean depth image")),
        _row(tally, "delta1", "", "delta1", ("constant depth", "mean depth image"), best="high"),
    ]
    for how in ("regressed", "refined"):
        for middle in ("median", "mean"):
            rows.append(
                _row(tally, f"rotation {how}, {middle}", "deg", "rotation", ("identity",), (sift,),
                     name=how, middle=middle)
            )  # fmt: skip
        rows.append(
            _row(tally, f"translation direction {how}, median", "deg", "direction", ("identity",),
                 (sift,), name=how, middle="median")
        )  # fmt: skip
    rows += [
        *(
            _row(
                tally, f"field of view {how}, mean", "deg", "fov", ("mean of the range",), name=how
            )
            for how in ("regressed", "refined")
        ),
        *_label_rows(tally),
        _row(tally, "scale, median absolute log", "", "scale", ("usual scale",), middle="median"),
        _calibration(tally),
    ]
    if ("psnr", "regressed") in tally.values:
        trivial, ceiling = ("nearest view", "mean colour"), ("exact geometry",)
        rows += [
            _row(tally, f"novel view, {how} cameras", "dB", "psnr", trivial, ceiling, name=how,
                 best="high")
            for how in ("regressed", "refined")
        ]  # fmt: skip
    return rows


def _row(
    tally: Tally, title: str, unit: str, metric: str, trivial: tuple[str, ...],
    beside: tuple[str, ...] = (), *, name: str = "network",
    middle: Literal["mean", "median"] = "mean", best: Literal["low", "high"] = "low",
) -> Row:  # fmt: skip
    def value(who: str) -> float:
        return getattr(tally, middle)(metric, who)

    others = {who: value(who) for who in trivial}, {who: value(who) for who in beside}
    return Row(title, unit, value(name), *others, best=best)


def _label_rows(tally: Tally) -> list[Row]:
    names = ("network", "majority class")
    rows = []
    for level in ("whole", "part"):
        for title, metric in (("pixel accuracy", metrics.accuracy), ("mIoU", metrics.mean_iou)):
            network, majority = (metric(tally.counts[level, name]) for name in names)
            trivial = {names[1]: majority}
            rows.append(Row(f"{title}, {level}", "", network, trivial, best="high"))
    return rows


def _calibration(tally: Tally) -> Row:
    """Actual over expected error of log depth: 1 where confidence means what it says."""
    actual, expected = tally.mean("error", "actual"), tally.mean("error", "expected")
    trivial = {"untrained head": actual / ERROR_PRIOR}
    return Row("depth error, actual / expected", "", actual / expected, trivial, best="one")


def held_out_pool(scenes: int, views: int, size: int, textures: Path | None) -> Pool:
    """Render the first rooms of the held-out split; the same rooms every time."""
    atlas = load_atlas(textures) if textures else None
    with tempfile.TemporaryDirectory() as folder:
        for path in write_pool(Path(folder), SPLIT, 0, scenes, views, (size, size), atlas):
            logger.info("rendered %s", path.name)
        return read_pool(Path(folder))


def evaluate(
    model: str,
    *,
    pool: Path | None = None,
    training: Path | None = None,
    scenes: int = 256,
    size: int = 64,
    views: int = 2,
    textures: Path | None = None,
    out: Path | None = None,
    device: str = "cpu",
) -> None:
    """Print the held-out table of a checkpoint as Markdown; `out` gets it as JSON as well.

    The rooms are those of the folder `pool`, or `scenes` rooms of the held-out split, rendered
    here at `size` pixels, with photo `textures` if given. `training` is the pool that the trivial
    statistics are taken from; without it each half of the rooms is told by the other half.
    Raises FFSplatError.
    """
    folder = resolve(model)
    network, _ = load_checkpoint(folder.path)
    clip = max(MIN_CLIP, views + 1)
    rooms = read_pool(pool) if pool else held_out_pool(scenes, clip, size, textures)
    told = read_pool(training) if training else None
    tally = measure(network.to(device), rooms, views=views, training=told)
    rows, note = table(tally), _note(tally, rooms, views, training)
    print(f"{folder.name} {folder.revision}: {note}\n\n{markdown(rows, folder.name)}")
    if out is not None:
        content = {"model": folder.name, "revision": folder.revision, "note": note}
        text = json.dumps(content | {"rows": as_json(rows)}, indent=1) + "\n"
        with atomic_output(out, overwrite=True) as file:
            file.write(text.encode())


def evaluate_photos(
    model: str, folder: Path, *, size: int | None = None, device: str = "cpu"
) -> None:
    """Print a table of pairs of real photos, one line a set of `folder`.

    `size` is the longer side that photos are resized to, by default what the network was made
    for. Raises FFSplatError.
    """
    from train.real import photo_table

    found = resolve(model)
    network, _ = load_checkpoint(found.path)
    resolution = size or network.config.resolution
    print(f"{found.name} {found.revision}: pairs of real photos at {resolution} pixels, medians\n")
    print(photo_table(network.to(device), folder, resolution))


def _note(tally: Tally, pool: Pool, views: int, training: Path | None) -> str:
    """What was measured and how, in a few sentences for the card."""
    rooms, available, height, width = pool["depth"].shape
    source = "the training pool" if training else "the other half of these rooms"
    return (
        f"{rooms} rooms, {views} of {available} views of each at {width} x {height} pixels, from "
        f"the first to the last of the clip; novel view: one between them. Depth is aligned by one "
        f"median a set. Mean depth image, majority class and usual scale come from {source}. "
        f"SIFT + five points had the true intrinsics, and small images enlarged; it failed in "
        f"{tally.mean('sift', 'failed'):.0%} of the pairs, which count as the identity. Exact "
        f"geometry is true depth and poses, splatted by the same code as an untrained head shapes "
        f"Gaussians."
    )
