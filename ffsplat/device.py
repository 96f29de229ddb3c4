"""Where and how precisely a network computes, and what happens when memory ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from ffsplat.errors import MemoryLimit, UsageError

Dtype = Literal["auto", "float32", "bfloat16"]
Record = TypeVar("Record", bound=Any)

LOCKED_BYTES = 1 << 26
"""Copied at most through memory that is locked in place, which the system never gets back."""


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one. UsageError if it is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hint = "choose auto, cpu, cuda, cuda:N or mps"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}", hint) from error
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= counts.get(device.type, 0):
        raise UsageError(f"device {name} is not on this machine", hint)
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """What to compute in; "auto" is bfloat16 where the device is fast at it. Raises UsageError."""
    if name == "auto":
        fast = _cpu_has_bfloat16() if device.type == "cpu" else device.type == "cuda"
        return torch.bfloat16 if fast else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name not in known:
        raise UsageError(f"unknown dtype {name!r}", f"choose auto, {' or '.join(known)}")
    return known[name]


@cache
def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16; where it must emulate that, float32 is faster."""
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", "replace").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def on_cpu(record: Record) -> Record:
    """The same dataclass with its tensors on the CPU; a GPU is waited for once, not for each."""
    tensors = {name: one for name, one in vars(record).items() if isinstance(one, torch.Tensor)}
    gpus = {one.device for one in tensors.values() if one.is_cuda}
    at_once = sum(one.nbytes for one in tensors.values()) <= LOCKED_BYTES and bool(gpus)
    moved = {name: one.to("cpu", non_blocking=at_once) for name, one in tensors.items()}
    for gpu in gpus:
        torch.cuda.current_stream(gpu).synchronize()
    return replace(record, **moved)


@contextmanager
def memory_errors(views: int, resolution: int, device: torch.device) -> Iterator[None]:
    """Turn whatever Python or torch raises when memory ends into MemoryLimit."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        ended = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not ended and "allocate memory" not in text and "not enough memory" not in text:
            raise
        fewer = f"--chunk-views {max(2, views // 2)} or " if views > 2 else ""
        raise MemoryLimit(
            f"out of memory at {views} views x {resolution} px on {device}",
            f"try {fewer}--resolution {resolution // 2}",
        ) from error
