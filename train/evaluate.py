"""The command that prints the tables of a model card: python -m train.evaluate CHECKPOINT."""

import json
import logging
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from huggingface_hub import try_to_load_from_cache
from torch.utils.data import Subset

from data.rooms import SPLITS, Atlas, load_atlas
from data.rooms.splits import splits_of
from data.shards import ShardDataset
from ffsplat.cli.failures import failure_of
from ffsplat.errors import FFSplatError, UsageError
from ffsplat.hub import ModelFolder, load_checkpoint, resolve
from ffsplat.io.atomic import atomic_output, check_output
from train.evaluation import photos as real
from train.evaluation.clips import NOVEL_VIEWS, Clips, RoomClips
from train.evaluation.measure import Subject, measure
from train.evaluation.rows import table
from train.evaluation.table import as_json, markdown, protocol
from train.evaluation.tally import Tally, median
from train.losses import FeatureNetwork

logger = logging.getLogger("train.evaluate")

ROOMS = 256
"""Rooms unless told otherwise: the first of the split `heldout_v2`."""
STAGES = ("network", "cameras", "scene")
"""What is timed: the forward pass, the refinement of cameras, and merging into a scene."""


_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint")
@click.option(
    "--rooms",
    "first_seed",
    type=click.IntRange(0, 2**62),
    metavar="FIRST_SEED",
    help="Rooms from this seed on, of any split.  [default: the first of heldout_v2]",
)
@click.option("--shards", metavar="URL", help="Clips of a set of shards instead of rooms.")
@click.option("--photos", type=_folder, help="Sets of real photos in a folder instead of rooms.")
@click.option("--count", type=click.IntRange(2), help="How many rooms (256) or clips (all).")
@click.option(
    "--views",
    type=click.IntRange(2, 8),
    default=2,
    show_default=True,
    help="Views given to the network.",
)
@click.option(
    "--size",
    type=click.IntRange(16, 1024),
    help="Pixels along the longer side.  [default: the network's own]",
)
@click.option("--textures", type=_folder, help="Photo tiles for the rooms.")
@click.option("--lpips", metavar="NETWORK", help="Add the distance that a network of timm sees.")
@click.option(
    "--lpips-weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its weights, safetensors.  [default: from the cache of the hub]",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the table there too.")
def main(
    checkpoint: str, first_seed: int | None, shards: str | None, photos: Path | None,
    count: int | None, views: int, size: int | None, textures: Path | None, lpips: str | None,
    lpips_weights: Path | None, device: str, out: Path | None,
) -> None:  # fmt: skip
    """Measure CHECKPOINT, a name or a folder, beside what needs no network.

    The table is printed as Markdown; JSON has the network's values by flat keys, those of all
    others under `baselines`.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    logging.getLogger("train").setLevel(logging.INFO)
    if sum(source is not None for source in (first_seed, shards, photos)) > 1:
        raise UsageError("--rooms, --shards and --photos exclude each other")
    if out is not None:
        check_output(out, overwrite=True)
    folder, where = resolve(checkpoint), _device(device)
    network, codebook = load_checkpoint(folder.path)
    network = network.to(where)
    size = size or network.config.resolution
    if photos is not None:
        sets = real.measure_photos(network, photos, size)
        report(folder, real.note(size), real.markdown(sets), real.as_json(sets), out)
        return
    if shards is not None:
        clips, told = open_shards(shards, count)
    else:
        patch = network.config.patch
        size = max(patch, size // patch * patch)
        clips, told = open_rooms(first_seed, count or ROOMS, views, size, textures, where)
    features = load_features(lpips, lpips_weights, where) if lpips else None
    tally = measure(Subject(network, codebook, features), clips, views=views, size=size)
    rows = table(tally, lpips or "")
    cost = costs(tally, where)
    note = f"{told.note} {describe(tally, views, cost)}\n\n{protocol(rows)}"
    measured = len(tally.known("seconds", "network"))
    facts = told.facts | cost | {"views": views, "size": size, "clips": measured}
    report(folder, note, markdown(rows, folder.name), as_json(rows) | facts, out)


@dataclass(frozen=True)
class Told:
    """Where clips come from: a sentence, and the same for JSON."""

    note: str
    facts: dict


def open_rooms(
    first: int | None,
    count: int,
    views: int,
    size: int,
    textures: Path | None,
    device: torch.device,
) -> tuple[RoomClips, Told]:
    """Rooms of consecutive seeds, by default the first of the split `heldout_v2`.

    Warns of rooms that networks are trained on.
    """
    start = SPLITS["heldout_v2"].start if first is None else first
    seeds = range(start, start + count)
    splits = splits_of(seeds)
    if "train" in splits:
        logger.warning("warning: these rooms are of the split train: the network may know them")
    clips = RoomClips(seeds, views + NOVEL_VIEWS, size, _atlas(textures), device)
    where = f"split {' and '.join(splits)}" if splits else "no split"
    kind = "photo and procedural" if textures else "procedural"
    note = f"Rooms of the seeds {start} to {seeds[-1]} ({where}), {kind} textures, {size} pixels."
    facts = {
        "seeds": [start, seeds[-1]],
        "splits": splits,
        "textures": bool(textures),
    }
    return clips, Told(note, facts)


def open_shards(address: str, count: int | None) -> tuple[Clips, Told]:
    """The clips of a set of shards, or its first ones."""
    clips = ShardDataset(address)
    first = Subset(clips, range(min(count or len(clips), len(clips))))
    return first, Told(f"Clips of the shards {address}.", {"shards": address})


def load_features(name: str, weights: Path | None, device: torch.device) -> FeatureNetwork | None:
    """The network behind LPIPS; None, with a warning, without its weights.

    They are read from a file or from the hub's cache; nothing is downloaded. Raises UsageError for
    a network that timm does not have, CheckpointError for weights that do not fit it.
    """
    import timm

    if not timm.is_model(name):
        raise UsageError(f"timm has no network {name!r}", hint="--lpips vgg16, for example")
    config = timm.get_pretrained_cfg(name)
    if weights is None and config is not None and config.hf_hub_id:
        cached = try_to_load_from_cache(config.hf_hub_id, "model.safetensors")
        weights = Path(cached) if isinstance(cached, str) else None
    if weights is None:
        logger.warning("warning: no weights of %s here, so LPIPS is left out", name)
        return None
    return FeatureNetwork(name, weights).to(device)


def costs(tally: Tally, device: torch.device) -> dict:
    """Median seconds of each stage for one set, and the largest memory of this process so far."""
    seconds = {stage: median("seconds")(tally, stage) for stage in STAGES}
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux
    return {"seconds": seconds, "peak_memory_mb": round(peak / 1e6)}


def describe(tally: Tally, views: int, cost: dict) -> str:
    """How many clips, which views of them, and what they cost."""
    short = int((tally.known("views", "clip") < views).sum())
    over = f" ({short} with fewer are left out)" if short else ""
    spent = ", ".join(f"{stage} {seconds:.3f} s" for stage, seconds in cost["seconds"].items())
    failed = tally.known("sift", "failed").mean().item()
    return (
        f"{len(tally.known('seconds', 'network'))} clips{over}; {views} views of each are given to "
        f"the network, from the first to the last, and up to {NOVEL_VIEWS} between them are novel. "
        f"SIFT failed in {failed:.0%} of the pairs. Float32; a set takes {spent} (medians); peak "
        f"memory of the process {cost['peak_memory_mb']} MB."
    )


def report(folder: ModelFolder, note: str, rows: str, content: dict, out: Path | None) -> None:
    """Print a table under the name of the checkpoint and over its protocol; `out` gets JSON."""
    print(f"{folder.name} {folder.revision}\n\n{rows}\n\n{note}")
    if out is not None:
        checkpoint = {"name": folder.name, "revision": folder.revision}
        whole = {"checkpoint": checkpoint, "protocol": note} | content
        with atomic_output(out, overwrite=True) as file:
            file.write((json.dumps(whole, indent=1, allow_nan=False) + "\n").encode())


def _atlas(textures: Path | None) -> Atlas | None:
    try:
        return load_atlas(textures) if textures else None
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{textures} does not hold photo tiles ({error!r})") from error


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device", hint="--device cpu")
    return torch.device(name)


def run() -> int:
    """The command, with its errors as one line and a hint; the exit code."""
    try:
        main(prog_name="python -m train.evaluate", standalone_mode=False)
    except (FFSplatError, click.ClickException, OSError) as error:
        failure = failure_of(error)
        print(f"error: {failure.message}", file=sys.stderr)
        if failure.hint:
            print(f"hint: {failure.hint}", file=sys.stderr)
        return failure.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run())
