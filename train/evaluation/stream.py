"""The online mapper beside other ways to map the same frames: `python -m train.evaluation.stream`.

Rooms are walked through, real sequences are read from a folder; each way of `mapping` has the same
frames and the same network. Frames that none of them is given are then looked at from its scene.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch
from jaxtyping import Float32, Int, UInt8

from ffsplat import load
from ffsplat.alignment import DegenerateAlignment, Similarity
from ffsplat.api import Model
from ffsplat.codebook import rows_of_level
from ffsplat.render import render
from ffsplat.stream.settings import MapperSettings
from ffsplat.types import Cameras, Scene
from train import metrics
from train.evaluation import mapping
from train.evaluation.footage import Footage, folder_footage, open_rooms, walk_footage
from train.evaluation.trajectory import align_trajectory, trajectory_errors

SETS = {
    "hololens_office": 1,
    "apc_shelf": 1,
    "train/tum_fr1_desk_rgb": 1,
    "train/tum_fr1_rpy": 1,
    "train/pochang_office": 1,
}
"""Real sequences and their strides. The network has seen frames of those under `train`."""
LOOKED_AT = ("abs_rel", "delta1", "seen", "psnr", "miou", "accuracy")
"""Values of a `Result` that come from looking at the scene."""
SEEN = 0.5
"""Opacity from which on a pixel shows the scene."""

WAYS: Mapping[str, Callable[[Model, Footage, MapperSettings], mapping.Mapped]] = {
    "one pass": lambda model, footage, _: mapping.one_pass(model, footage),
    "passes": lambda model, footage, _: mapping.in_passes(model, footage),
    "chain": lambda model, footage, _: mapping.chained(model, footage),
    "mapper": mapping.mapped,
    "mapper + poses": lambda *given: mapping.mapped(*given, posed=True),
}


@dataclass(frozen=True)
class Result:
    """What a way earned on footage; NaN where nothing could be measured.

    `placed` is the share of the frames it was given that have a pose. `ate` (m) is over the frames
    of the one pass, so that all ways have the same ones, `ate_all` over all that were placed, and
    `ate_live` over the same as they were when they came; that says little where poses are given,
    for the map changes its world when they first tell where it is. `rpe_*` are those of neighbours
    (m, degrees), `drift_*` those a metre (%, degrees). The rest is seen from the scene at frames
    that were kept back, through their true cameras: `abs_rel` and `delta1` of the depth at one
    median scale, where `seen` of the true pixels show the scene; `psnr` in decibels; `miou` over
    the lexicon's whole objects that are there, however small, and `accuracy` over all pixels.
    """

    footage: str
    way: str
    placed: float
    ate: float
    ate_all: float
    ate_live: float
    rpe_move: float
    rpe_turn: float
    drift_move: float
    drift_turn: float
    abs_rel: float
    delta1: float
    seen: float
    psnr: float
    miou: float
    accuracy: float
    gaussians: int
    frames_a_second: float
    counts: Mapping[str, float]


def measure(way: str, made: mapping.Mapped, footage: Footage) -> Result:
    """All that is known of what a way made of footage."""
    truth = footage.world_from_camera[made.rows]
    common = np.isin(made.rows, mapping.spread(footage.given, mapping.ONE_PASS))
    every = len(made.rows) > 2 * mapping.ONE_PASS or len(made.rows) == len(footage.given)
    nothing = dict.fromkeys(("ate_all", "rpe_move", "rpe_turn"), math.nan)
    errors = {"ate": math.nan, "ate_live": math.nan, "drift_move": math.nan, "drift_turn": math.nan}
    seen = dict.fromkeys(LOOKED_AT, math.nan)
    try:
        found = trajectory_errors(made.poses, truth)
        errors["ate"] = trajectory_errors(made.poses[common], truth[common]).absolute
        live = made.poses if made.live is None else made.live
        errors["ate_live"] = trajectory_errors(live, truth).absolute
        errors["drift_move"] = 100 * found.travelled_move
        errors["drift_turn"] = found.travelled_turn
        if every:
            nothing = {
                "ate_all": found.absolute, "rpe_move": found.step_move, "rpe_turn": found.step_turn,
            }  # fmt: skip
        seen = look(made.scene, align_trajectory(made.poses, truth), footage)
    except DegenerateAlignment:
        pass
    return Result(
        footage.name,
        way,
        len(made.rows) / len(footage.given),
        gaussians=len(made.scene),
        frames_a_second=(len(footage.given) if made.counts else len(made.rows)) / made.seconds,
        counts=dict(made.counts),
        **errors,
        **nothing,
        **seen,
    )


def look(scene: Scene, truth_from_scene: Similarity, footage: Footage) -> dict[str, float]:
    """The scene at the frames that were kept back, beside what they show."""
    rows = footage.held
    height, width = footage.images.shape[1:3]
    moved = truth_from_scene.scene(scene)
    cameras = Cameras(
        footage.world_from_camera[rows].astype(np.float32),
        footage.intrinsics[rows].astype(np.float32),
        np.tile(np.array([width, height], np.int32), (len(rows), 1)),
        tuple(map(str, rows)),
    )
    background = (footage.images[footage.given].mean((0, 1, 2)) / 255).tolist()
    drawn = as_images(render(moved, cameras, background=background))
    true = as_images(footage.images[rows].astype(np.float32) / 255)
    found: dict[str, float] = dict.fromkeys(LOOKED_AT, math.nan)
    opaque = torch.from_numpy(render(moved, cameras, "opacity"))[None] > SEEN
    if footage.depth is not None:
        depth = torch.from_numpy(render(moved, cameras, "depth"))[None]
        known = torch.from_numpy(footage.depth[rows])[None]
        mask = opaque & (known > 0)
        aligned = depth * metrics.median_scale(depth, known, mask)
        found["abs_rel"] = metrics.absolute_relative(aligned, known, mask).item()
        found["delta1"] = metrics.delta1(aligned, known, mask).item()
    if footage.whole is not None and scene.codebook is not None:
        counts = confusion(moved, cameras, footage.whole[rows])
        found["miou"], found["accuracy"] = metrics.mean_iou(counts), metrics.accuracy(counts)
    found["psnr"] = metrics.psnr(drawn, true).mean().item()
    found["seen"] = opaque.float().mean().item()
    return found


def as_images(pictures: Float32[np.ndarray, "n h w 3"]) -> torch.Tensor:
    """Channels first."""
    return torch.from_numpy(pictures).movedim(-1, 1)


def confusion(
    scene: Scene, cameras: Cameras, truth: UInt8[np.ndarray, "n h w"]
) -> Int[torch.Tensor, "classes classes"]:
    """Which whole objects of the lexicon pixels show and are called; the last class is none."""
    assert scene.codebook is not None
    rows = rows_of_level(scene.codebook, "whole")
    classes = np.full(len(scene.codebook) + 1, len(rows))
    classes[rows] = np.arange(len(rows))
    called = torch.from_numpy(classes[render(scene, cameras, "codes")])
    return metrics.confusion(called, torch.from_numpy(truth.astype(np.int64)), len(rows) + 1)


COLUMNS: Mapping[str, tuple[str, str]] = {
    "placed": ("placed", ".0%"),
    "ate": ("ATE, m", ".3f"),
    "ate_all": ("all frames", ".3f"),
    "ate_live": ("live", ".3f"),
    "rpe_move": ("RPE, mm", ".1f"),
    "rpe_turn": ("deg", ".2f"),
    "drift_move": ("a metre, %", ".1f"),
    "drift_turn": ("deg", ".1f"),
    "abs_rel": ("AbsRel", ".3f"),
    "delta1": ("delta1", ".2f"),
    "seen": ("seen", ".0%"),
    "psnr": ("PSNR, dB", ".1f"),
    "miou": ("mIoU", ".3f"),
    "accuracy": ("accuracy", ".0%"),
    "gaussians": ("Gaussians", ",.0f"),
    "frames_a_second": ("frames/s", ".1f"),
}
"""Title and digits of each value of `Result`."""


def markdown(results: Sequence[Result]) -> str:
    """A table with one line a footage and way, then means by way: over rooms, and over all times
    that a sequence was begun.
    """
    titles = [title for title, _ in COLUMNS.values()]
    lines = [f"| footage | way | {' | '.join(titles)} |", "|---" * (2 + len(titles)) + "|"]
    lines += [line(one.footage, one.way, asdict(one)) for one in results]
    alike: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        kind = "rooms" if one.footage.startswith("room ") else one.footage.partition(", ")[0]
        alike.setdefault((kind, one.way), []).append(one)
    for (kind, way), some in alike.items():
        if kind == "rooms" or len(some) > 1:
            means = {name: float(np.mean([vars(one)[name] for one in some])) for name in COLUMNS}
            lines.append(line(f"mean of {len(some)} {kind}", way, means))
    return "\n".join(lines)


def line(footage: str, way: str, values: Mapping[str, float]) -> str:
    """One line of the table; what could not be measured is left empty."""
    cells = []
    for name, (title, digits) in COLUMNS.items():
        value = values[name] * (1000 if title == "RPE, mm" else 1)
        cells.append("" if math.isnan(value) else format(value, digits))
    return f"| {footage} | {way} | {' | '.join(cells)} |"


def sequences(
    model: Model,
    rooms: int,
    split: str,
    first: int,
    frames: int | None,
    stride: int,
    sets: Sequence[str],
    starts: int,
) -> Iterator[Footage]:
    """The footage that was asked for; sets that are not there are left out.

    Each set is begun `starts` times, both ways round (`Footage.begun`), once as it is with none.
    """
    for seed in islice(open_rooms(split, first), rooms):
        yield walk_footage(seed, frames, stride=stride)
    folder = Path(os.environ.get("FFSPLAT_DATA", "../shared/data"))
    for name in sets:
        if (folder / name).is_dir():
            size = model.config.resolution, model.config.patch
            footage = folder_footage(folder / name, *size, SETS.get(name, 1))
            yield from footage.begun(starts) if starts else [footage]


@click.command()
@click.option("--model", "name", default="ffsplat-tiny", show_default=True)
@click.option("--rooms", default=3, show_default=True, help="Rooms that are walked through.")
@click.option("--split", default="preview", show_default=True, help="Their split.")
@click.option("--first", default=0, help="Number of the first room of it that is tried.")
@click.option("--frames", type=int, help="Frames of a walk; by default a little over one loop.")
@click.option("--stride", default=1, show_default=True, help="Of a walk, each so-many-th frame.")
@click.option("--sets", default=",".join(SETS), help="Real sequences, by comma.")
@click.option("--starts", default=0, help="Begin those so often, a frame later, both ways round.")
@click.option(
    "--ways",
    default="one pass,chain,mapper,mapper + poses",
    show_default=True,
    help="Ways, by comma.",
)
@click.option("--set", "options", multiple=True, help="A setting of the mapper: window=8.")
@click.option("--out", type=click.Path(path_type=Path), help="Write all results as JSON.")
def main(name, rooms, split, first, frames, stride, sets, starts, ways, options, out) -> None:
    """Map footage in several ways and print what each is worth."""
    model = load(name, device="cpu")
    pairs = (one.split("=", 1) for one in options)
    settings = MapperSettings(**{key: json.loads(value) for key, value in pairs})
    results = []
    chosen = list(filter(None, sets.split(",")))
    for footage in sequences(model, rooms, split, first, frames, stride, chosen, starts):
        for way in ways.split(","):
            result = measure(way, WAYS[way](model, footage, settings), footage)
            click.echo(f"{line(footage.name, way, asdict(result))} {dict(result.counts)}", err=True)
            results.append(result)
    click.echo(markdown(results))
    if out is not None:
        out.write_text(json.dumps([asdict(one) for one in results], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
