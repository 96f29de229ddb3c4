"""How many views one pass may have: what a view costs, and how much memory is free."""

import math
import os
from pathlib import Path

import torch

from ffsplat.config import ModelConfig

USABLE = 0.5
"""Share of the free memory that one pass may take; the scene and other programs need the rest."""

MOST_VIEWS = 24
"""Views of a single pass unless told otherwise, however much memory there is.

What views cost each other grows with the square of their number.
"""

WINDOW = 4
"""Views of each of many passes unless told otherwise: a new one and those that it is placed by.

A network places a view well if it overlaps the others of its pass, and of a walk few do: windows
of 4 views drift a third as much as windows of 8 (`train.evaluation.stream --set window=8`).
"""

LEAST_VIEWS = 2
"""Views of a pass however little memory there is: one alone could not be placed beside others."""

GAUSSIAN_CHANNELS = 15
"""Numbers of a pixel beside its codes: depth, its error, and a Gaussian."""

TOKEN_COPIES = 24
"""Tokens as wide as all of a view that a block holds at once: queries, hidden layers, copies."""

MAP_COPIES = 4
"""The same for maps at full resolution."""

ROOT = Path("/")
"""Where /proc and /sys are."""


def views_per_pass(config: ModelConfig, shape: tuple[int, int, int], free: int) -> int:
    """How many of (views, height, width) go through a network together with `free` bytes.

    All of up to MOST_VIEWS if they fit, else WINDOW, or what fits, but LEAST_VIEWS at least.
    """
    views, height, width = shape
    room = USABLE * free - bytes_a_pass(config, height, width)
    fitting = max(LEAST_VIEWS, math.floor(room / bytes_a_view(config, height, width)))
    return views if views <= min(fitting, MOST_VIEWS) else min(fitting, WINDOW)


def bytes_a_view(config: ModelConfig, height: int, width: int) -> int:
    """Memory that one more view takes in a forward pass in float32, at most.

    What is predicted is held to the end; the rest is what tokens, maps and matches with the
    reference need meanwhile. `tests/bench/bench_long.py` compares it with what is measured.
    """
    tokens = -(-height // config.patch) * -(-width // config.patch)
    codes = config.whole_rows + config.part_rows + config.instance_width
    floats = height * width * (GAUSSIAN_CHANNELS + codes)
    floats += TOKEN_COPIES * config.width * tokens
    if config.match_block:
        floats += 3 * tokens**2 + height * width * config.match_width // config.match_stride**2
    if config.read_out == "pixel":
        floats += MAP_COPIES * config.decoder[-1] * height * width
    return 4 * floats


def bytes_a_pass(config: ModelConfig, height: int, width: int) -> int:
    """Memory that a pass takes however many views it has.

    Pyramids are read view by view. Cameras are refined by one pair of views after the other, with
    a score for each pair of cells.
    """
    floats = MAP_COPIES * config.dpt_width * height * width
    if config.match_block:
        floats += 2 * ((height // config.match_stride) * (width // config.match_stride)) ** 2
    return 4 * floats


def free_memory(device: torch.device, root: Path = ROOT) -> int:
    """Bytes that a computation on a device may still take.

    On a CPU, what the kernel calls available, within the limits of the control groups (versions 1
    and 2) that this process is in; where there is no /proc, half of the memory that is built in.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    available = _available(root)
    if available is None:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min([available, *_left_in_groups(root)])


def _available(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if "MemAvailable" not in fields:
        return None
    return int(fields["MemAvailable"].split()[0]) * 1024


def _left_in_groups(root: Path) -> list[int]:
    """What is left of the limit of each control group that holds this process, parents included."""
    left = []
    for base, names in _groups(root):
        for folder in [base.joinpath(*names[:depth]) for depth in range(len(names) + 1)]:
            for limit, used, cache in (
                ("memory.max", "memory.current", "inactive_file"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            ):
                most, now = _number(folder / limit), _number(folder / used)
                if most is not None and now is not None:
                    left.append(max(0, most - now + _statistic(folder / "memory.stat", cache)))
    return left


def _groups(root: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Where the memory controller is mounted, and the way from there to the group of this process.

    In a container the mount may begin at the group itself; the ways below it do not exist then.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        names = tuple(part for part in path.split("/") if part not in ("", ".."))
        if not controllers:
            found.append((root / "sys/fs/cgroup", names))
        elif "memory" in controllers.split(","):
            found.append((root / "sys/fs/cgroup/memory", names))
    return found


def _number(path: Path) -> int | None:
    """The number in a file; None if there is no file, or "max" in it."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    """A line of memory.stat: file cache that the kernel gives back before a group is full."""
    try:
        pairs = dict(line.split() for line in path.read_text("ascii").splitlines())
        return int(pairs.get(name, 0))
    except (OSError, ValueError):
        return 0
