"""Depth Anything 3 by its own code beside ours: the same random weights, files and photos.

Run: python -m tests.compare_da3 --original PATH parity
PATH (or the variable DA3_SOURCE) is the `src` folder of a checkout of
github.com/ByteDance-Seed/Depth-Anything-3. Its code needs addict and omegaconf, and e3nn for
Gaussians; `--packages` names a folder that holds them, if this environment does not.

`parity` writes checkpoints as the original publishes them, imports each by `load_da3`, and prints
the largest difference of every output; it fails above 1e-4. `names` holds the names and shapes of
the published sizes against ours. `speed` prints the ratio of median times, run in turn, and the
peak memory of either. `record` writes the numbers that tests/zoo/test_da3.py holds ours to.
"""

import json
import os
import sys
import tempfile
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from unittest.mock import patch

import click
import numpy as np
import safetensors.torch
import torch
from torch import nn

from ffsplat.config import ModelConfig
from ffsplat.geometry import invert_rigid
from ffsplat.model import FFSplat
from ffsplat.nn.camera import normalized_poses
from ffsplat.nn.stem import normalize_colors
from ffsplat.zoo import CONFIG, WEIGHTS, da3
from ffsplat.zoo.da3_names import PRESETS
from tests.zoo import da3_original as theirs
from tests.zoo.da3_outputs import our_outputs, sample
from tests.zoo.da3_recipe import (
    RECORDED_CASES,
    RECORDED_SEED,
    RECORDING,
    REDUCED,
    draw_cameras,
    draw_photos,
    sample_name,
)

TOLERANCE = 1e-4
CASES = (
    (1, 70, 98), (2, 126, 84), (3, 84, 126), (4, 42, 154), (5, 98, 70), (6, 56, 56),
    (2, 280, 504), (1, 518, 518),
)  # fmt: skip
"""Views, height, width: fewer and more than from which a reference is chosen, both ways up; a
common size of photos, and that at which the table of positions is not stretched."""


def imported(original: nn.Module, config: ModelConfig) -> FFSplat:
    """Our network of a file that the original wrote, as its hub library writes it."""
    with tempfile.TemporaryDirectory() as name, patch.dict(PRESETS, {config.name: config}):
        folder = Path(name)
        (folder / CONFIG).write_text(json.dumps({"model_name": config.name}))
        published = nn.Module()
        published.model = original
        safetensors.torch.save_model(published, str(folder / WEIGHTS))
        return da3.load_da3(folder)


def differences(
    original: nn.Module, network: FFSplat, case: tuple[int, int, int], seed: int, known: bool
) -> dict[str, float]:
    """The largest absolute difference of each output; `known` gives both the true cameras."""
    images = torch.from_numpy(draw_photos(*case, seed))
    cameras = extrinsics = None
    if known:
        poses, intrinsics = map(torch.from_numpy, draw_cameras(*case, seed))
        cameras = (poses, intrinsics)
        extrinsics = (invert_rigid(normalized_poses(poses)), intrinsics)
    ours = our_outputs(network, images, cameras)
    other = theirs.run_original(original, images, extrinsics, network.config.gaussian_head)
    assert ours.keys() == other.keys(), ours.keys() ^ other.keys()
    return {name: float(np.abs(ours[name] - other[name]).max()) for name in ours}


@click.group()
@click.option("--original", envvar="DA3_SOURCE", required=True, type=click.Path(path_type=Path))
@click.option("--packages", type=click.Path(path_type=Path))
@click.option("--threads", default=2)
def main(original: Path, packages: Path | None, threads: int) -> None:
    """Compare with the original at a path."""
    os.environ.setdefault("DA3_LOG_LEVEL", "ERROR")
    torch.set_num_threads(threads)
    theirs.find_original(original, packages)


@main.command()
@click.option("--full", multiple=True, type=click.Choice(list(PRESETS)))
@click.option("--seeds", default=3)
def parity(full: tuple[str, ...], seeds: int) -> None:
    """Largest differences, of reduced networks and of those named by --full."""
    configs = [(name, config) for name, config in REDUCED.items()]
    configs += [(name, PRESETS[name]) for name in full]
    worst = 0.0
    for name, config in configs:
        original = theirs.build_original(config, name)
        for seed in range(seeds):
            theirs.draw_weights(original, seed)
            network = imported(original, config)
            for case in CASES:
                for known in (False, True):
                    found = differences(original, network, case, seed, known)
                    worst = max(worst, *found.values())
                    text = "  ".join(f"{key} {value:.1e}" for key, value in found.items())
                    print(f"{name} {config.width} seed {seed} {case} known={known}: {text}")
    print(f"largest difference {worst:.1e}")
    sys.exit(worst > TOLERANCE)


@main.command()
def names() -> None:
    """Names and shapes of the published sizes, without any weights."""
    for name, config in PRESETS.items():
        on_cpu = partial(torch.linspace, device="cpu")  # the original reads values of it
        with torch.device("meta"), patch.object(torch, "linspace", on_cpu):
            original = theirs.build_original(config, name)
            network = FFSplat(config)
        found = {da3.PREFIX + key: tuple(t.shape) for key, t in original.state_dict().items()}
        wanted = da3.expected_tensors(network, found)
        assert {key: tuple(t.shape) for key, t in wanted.items()} == found, name
        count, read = (sum(p.numel() for p in n.parameters()) for n in (original, network))
        print(f"{name}: {len(found)} tensors, {count} parameters, {read} of which are read")


@main.command()
def record() -> None:
    """Write the samples of the original's outputs that the tests hold."""
    samples = {}
    for name, config in REDUCED.items():
        original = theirs.build_original(config, name)
        theirs.draw_weights(original, RECORDED_SEED)
        for case in RECORDED_CASES:
            images = torch.from_numpy(draw_photos(*case, RECORDED_SEED))
            for known in (False, True):
                cameras = None
                if known:
                    poses, k = map(torch.from_numpy, draw_cameras(*case, RECORDED_SEED))
                    cameras = (invert_rigid(normalized_poses(poses)), k)
                outputs = theirs.run_original(original, images, cameras, config.gaussian_head)
                samples[sample_name(name, case, known)] = sample(outputs)
    np.savez_compressed(RECORDING, **samples)
    print(f"{RECORDING}: {RECORDING.stat().st_size} bytes")


@main.command()
@click.option("--name", default="da3-small", type=click.Choice(list(PRESETS)))
@click.option("--views", multiple=True, type=int, default=(2, 8))
@click.option("--repeats", default=5)
@click.option("--size", type=(int, int), default=(378, 504), help="Height and width.")
def speed(name: str, views: tuple[int, ...], repeats: int, size: tuple[int, int]) -> None:
    """Median seconds of either, run in turn, and their ratio; no Gaussians, no rays."""
    original = theirs.build_original(PRESETS[name], name)
    theirs.draw_weights(original, 0)
    network = imported(original, PRESETS[name])
    for count in views:
        images = torch.from_numpy(draw_photos(count, *size, 0))
        normal = normalize_colors(images)
        runs = {"original": lambda x=normal: original(x), "ours": lambda x=images: network(x)}
        seconds: dict[str, list[float]] = {key: [] for key in runs}
        with torch.inference_mode():
            for repeat in range(repeats + 1):  # the first one warms up
                for key, run in runs.items():
                    start = time.perf_counter()
                    run()
                    if repeat:
                        seconds[key].append(time.perf_counter() - start)
        ours, other = median(seconds["ours"]), median(seconds["original"])
        print(
            f"{name}, {count} views of {size[1]} x {size[0]}: ours {ours:.2f} s, "
            f"original {other:.2f} s, ratio {ours / other:.2f}"
        )


@main.command()
@click.option("--name", default="da3-small", type=click.Choice(list(PRESETS)))
@click.option("--views", multiple=True, type=int, default=(2, 8))
@click.option("--size", type=(int, int), default=(378, 504), help="Height and width.")
def memory(name: str, views: tuple[int, ...], size: tuple[int, int]) -> None:
    """Peak memory of a forward pass above that of the weights, each in a process of its own."""
    for count in views:
        peaks = {}
        for key in ("ours", "original"):
            context = get_context("fork")
            answer = context.SimpleQueue()
            context.Process(target=_peak, args=(answer, key, name, count, size)).start()
            peaks[key] = answer.get()
        print(
            f"{name}, {count} views of {size[1]} x {size[0]}: ours {peaks['ours']:.0f} MB, "
            f"original {peaks['original']:.0f} MB, ratio {peaks['ours'] / peaks['original']:.2f}"
        )


def _peak(answer, key: str, name: str, views: int, size: tuple[int, int]) -> None:
    images = torch.from_numpy(draw_photos(views, *size, 0))
    if key == "ours":
        network: nn.Module = FFSplat(PRESETS[name]).eval()
    else:
        network, images = theirs.build_original(PRESETS[name], name), normalize_colors(images)
    before = _megabytes("VmRSS")
    with torch.inference_mode():
        network(images)
    answer.put(_megabytes("VmHWM") - before)


def _megabytes(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    main()
