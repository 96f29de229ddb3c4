"""What formats that round have in common: checks before writing, after reading, and bit fields."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8, UInt32, UInt64

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.io.layout import LARGEST_LOG_SCALE, SH_COUNTS
from ffsplat.types import SH_C0, Gaussians, Scene

MAX_GAUSSIANS = 1 << 28
"""More than any file holds that is read here: 2.7e8."""

MAX_RATIO = 64
FREE_BYTES = 1 << 26
"""What a file may unpack to: that many times itself, and 64 MiB. Real splats compress 10 times."""

_TINY = float(np.finfo(np.float32).tiny)
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


class Parts(NamedTuple):
    """The parameters of Gaussians as they come from a file, not checked yet."""

    means: Float[np.ndarray, "n 3"]
    scales: Float[np.ndarray, "n 3"]
    quaternions_wxyz: Float[np.ndarray, "n 4"]
    opacities: Float[np.ndarray, " n"]
    sh: Float[np.ndarray, "n k 3"]

    @classmethod
    def of(cls, gaussians: Gaussians) -> "Parts":
        """The parameters of Gaussians, all but the opacities of meaning."""
        return cls(
            gaussians.means,
            gaussians.scales,
            gaussians.quaternions_wxyz,
            gaussians.opacities,
            gaussians.sh,
        )


def writable(scene: Scene) -> Gaussians:
    """The Gaussians, if a file can hold them; OutputError says what is wrong.

    Quaternions come back of unit length, scales above 0, opacities in [0, 1].
    """
    gaussians = scene.gaussians
    if not len(scene):
        raise OutputError("the scene has no Gaussians; most readers refuse an empty file")
    if gaussians.sh.shape[1] not in SH_COUNTS:
        raise OutputError(f"{gaussians.sh.shape[1]} SH coefficients, not 1, 4, 9 or 16")
    problem = _problem(Parts.of(gaussians))
    if problem:
        raise OutputError(f"the scene cannot be written: {problem}")
    return Gaussians(
        gaussians.means,
        np.maximum(gaussians.scales, np.float32(_TINY)),
        unit(gaussians.quaternions_wxyz),
        np.clip(gaussians.opacities, 0, 1),
        gaussians.sh,
        gaussians.meaning_opacities,
    )


def readable(parts: Parts, name: str) -> Gaussians:
    """The Gaussians of a file; SceneFileError if some are not finite or have no rotation."""
    if not len(parts.means):
        raise SceneFileError(f"{name} has no Gaussians", "make the scene again with infer")
    with np.errstate(over="ignore", invalid="ignore"):
        plain = Parts(*(np.asarray(part, np.float32) for part in parts))
    problem = _problem(plain)
    if problem:
        raise SceneFileError(f"{name}: {problem}")
    return Gaussians(
        plain.means,
        np.maximum(plain.scales, np.float32(_TINY)),
        unit(plain.quaternions_wxyz),
        np.clip(plain.opacities, 0, 1),
        plain.sh,
    )


def _problem(parts: Parts) -> str:
    """What is wrong with these numbers, "" for nothing."""
    good = np.ones(len(parts.means), bool)
    for part in parts:
        if not np.isfinite(part).all():
            good &= np.isfinite(part).reshape(len(good), -1).all(axis=1)
    if not good.all():
        return f"{int((~good).sum())} of {len(good)} Gaussians hold NaN or infinity"
    with np.errstate(over="ignore"):
        squared = np.einsum("nk,nk->n", parts.quaternions_wxyz, parts.quaternions_wxyz)
    good = np.isfinite(squared) & (squared > _TINY)
    if not good.all():
        return f"{int((~good).sum())} of {len(good)} Gaussians have no rotation"
    if parts.scales.max() > np.exp(np.float64(LARGEST_LOG_SCALE)):
        return "a scale is beyond float32"
    return ""


def check_promise(promised: int, size: int) -> None:
    """ValueError if a file of `size` bytes promises more unpacked bytes than is credible."""
    if promised > FREE_BYTES + MAX_RATIO * size:
        raise ValueError(f"it promises {promised} bytes in {size}")


def unit(quaternions: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
    """Quaternions of length 1; those that have it to rounding stay as they are."""
    squared = np.einsum("nk,nk->n", quaternions, quaternions)
    off = np.abs(squared - 1) > 1e-6
    if not off.any():
        return quaternions
    result = quaternions.copy()
    result[off] /= np.linalg.norm(result[off].astype(np.float64), axis=1, keepdims=True)
    return result


def byte(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Values in [0, 255] as the nearest byte; others as the nearest end."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def level(values: Float[np.ndarray, "*shape"], bits: int) -> UInt32[np.ndarray, "*shape"]:
    """Values in [0, 1] as the nearest of 2^bits levels, unsigned."""
    top = (1 << bits) - 1
    return np.clip(np.floor(values * top + 0.5), 0, top).astype(np.uint32)


def dc_of(colors: Float[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 1 3"]:
    """The constant SH coefficient of colours: the inverse of colour = 0.5 + SH_C0 * dc."""
    return ((colors - 0.5) / SH_C0).astype(np.float32)[:, None]


def drop_largest(
    quaternions: Float32[np.ndarray, "n 4"],
) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, "n 3"]]:
    """Which component is the largest, and the other three in order, where that one is positive.

    The three lie in [-sqrt(1/2), sqrt(1/2)] and say everything: "smallest three".
    """
    largest = np.abs(quaternions).argmax(axis=1)
    rest = np.take_along_axis(quaternions, _OTHERS[largest], axis=1)
    dropped = np.take_along_axis(quaternions, largest[:, None], axis=1)
    return largest, np.where(dropped < 0, -rest, rest)


def restore_largest(
    largest: Int[np.ndarray, " n"], rest: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 4"]:
    """Undo `drop_largest`; the largest follows from the length 1."""
    quaternions = np.empty((len(rest), 4), rest.dtype)
    np.put_along_axis(quaternions, _OTHERS[largest], rest, axis=1)
    missing = np.sqrt(np.maximum(0, 1 - np.einsum("nk,nk->n", rest, rest)))
    np.put_along_axis(quaternions, largest[:, None], missing[:, None], axis=1)
    return quaternions


def along_morton_curve(gaussians: Gaussians) -> Gaussians:
    """The Gaussians in `morton_order`; the opacities of meaning stay behind."""
    order = morton_order(gaussians.means)
    ordered = (np.take(part, order, axis=0) for part in Parts.of(gaussians))  # 4 times an index
    return Gaussians(*ordered)


def morton_order(means: Float32[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """The order along a Morton curve, 21 bits an axis: rows that are near stand near."""
    low = means.min(axis=0).astype(np.float64)
    extent = float((means.max(axis=0) - low).max()) or 1.0
    cells = ((means - low) / extent * ((1 << 21) - 1)).astype(np.uint64)
    code = np.zeros(len(means), np.uint64)
    for axis in range(3):
        code |= _spread(cells[:, axis]) << np.uint64(axis)
    return np.argsort(code, kind="stable")


def _spread(bits: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """21 bits with two zeros between any two, by halving the distances."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        bits = (bits | (bits << np.uint64(shift))) & np.uint64(mask)
    return bits
