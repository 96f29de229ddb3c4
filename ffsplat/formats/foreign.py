"""What readers of other systems' scenes share: columns, side files, dense features as codes."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
from jaxtyping import Float32, Int16

from ffsplat.codebook import code_gram
from ffsplat.codes import from_pairs
from ffsplat.errors import SceneFileError
from ffsplat.formats.quantize import palette_of
from ffsplat.io.header import Header, open_regular, read_header
from ffsplat.io.layout import blocks, columns
from ffsplat.semantics.bank import nameless
from ffsplat.types import NO_ID, Codebook, SparseCode

SAMPLE = 1 << 15
"""Features that codebook rows are made from."""

MAX_CODEBOOK = 1024
"""Rows that dense features become."""

MAX_SIDE_BYTES = 1 << 32

_log = logging.getLogger(__name__)

Features = Callable[[], Iterator[Float32[np.ndarray, "block d"]]]
"""All features in order, in blocks; may be called more than once."""


def header_of(path: Path) -> Header:
    """The header of a PLY whose size is what it promises; SceneFileError else."""
    with open_regular(path) as file:
        header = read_header(file, path.name)
    header.check_size(path.name)
    return header


def numbered(path: Path, header: Header, prefix: str) -> tuple[str, ...]:
    """Columns `<prefix>0`, `<prefix>1`, ... as many as there are."""
    found = {name for name, _ in header.vertex.properties}
    count = sum(name.startswith(prefix) and name[len(prefix) :].isdecimal() for name in found)
    names = tuple(f"{prefix}{i}" for i in range(count))
    if not count or not set(names) <= found:
        raise SceneFileError(f"{path.name}: columns {prefix}0, {prefix}1, ... are not complete")
    return names


def column_blocks(
    path: Path, header: Header, names: tuple[str, ...]
) -> Iterator[Float32[np.ndarray, "block d"]]:
    """Some columns of all rows, block by block; SceneFileError where one is not finite."""
    chosen = columns(header.vertex, names)
    for _, block in blocks(path, header, slice(0, header.vertex.count)):
        part = block[:, chosen].astype(np.float32)
        if not np.isfinite(part).all():
            raise SceneFileError(f"{path.name} has values of {names[0]} that are not finite")
        yield part


def side_file(scene: Path, explicit: str | Path | None, patterns: tuple[str, ...]) -> Path | None:
    """The file that was given, or the first that a pattern finds from the scene's folder."""
    if explicit is not None:
        return Path(explicit)
    found = (path for pattern in patterns for path in sorted(scene.parent.glob(pattern)))
    return next(found, None)


def side_tensors(path: Path, names: tuple[str, ...]) -> dict[str, Float32[np.ndarray, "..."]]:
    """Those of the named tensors that a .safetensors file or a checkpoint of PyTorch holds.

    A checkpoint is read as `ffsplat.weights.foreign` has it: nothing of it is run. Raises
    SceneFileError for a file that is neither or too large, CheckpointError for one that is refused.
    """
    with open_regular(path) as file:
        if file.seek(0, 2) > MAX_SIDE_BYTES:
            raise SceneFileError(f"{path} is larger than {MAX_SIDE_BYTES} bytes")
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, "np") as tensors:
                present = [name for name in names if name in tensors.keys()]  # noqa: SIM118
                return {name: tensors.get_tensor(name).astype(np.float32) for name in present}
        except (safetensors.SafetensorError, TypeError) as error:
            raise SceneFileError(f"{path} is no safetensors file: {error}") from error
    from ffsplat.weights.foreign import read_tensors

    found = read_tensors(path)
    return {name: found[name].float().numpy() for name in names if name in found}


def linear_layer(
    path: Path, layers: tuple[str, ...], inputs: int
) -> tuple[Float32[np.ndarray, "outputs inputs"], Float32[np.ndarray, " outputs"]]:
    """Weight and bias of a 1x1 convolution: of the first of these `layers` that the file has.

    A layer is what stands before "weight" in a tensor's name. Raises SceneFileError if there is
    none, or one for another number of inputs.
    """
    tensors = side_tensors(path, tuple(f"{a}{b}" for a in layers for b in ("weight", "bias")))
    layer = next((layer for layer in layers if f"{layer}weight" in tensors), None)
    if layer is None:
        raise SceneFileError(f"{path} has none of {', '.join(f'{a}weight' for a in layers)}")
    weight = tensors[f"{layer}weight"]
    if weight.shape[1:] not in ((inputs,), (inputs, 1, 1)) or not len(weight):
        raise SceneFileError(f"{path}: {layer}weight is {weight.shape}, not for {inputs} inputs")
    weight = weight.reshape(len(weight), inputs)
    bias = tensors.get(f"{layer}bias", np.zeros(len(weight), np.float32))
    if bias.shape != (len(weight),) or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise SceneFileError(f"{path}: {layer}weight or its bias is damaged")
    return weight, bias


@dataclass(frozen=True, eq=False)
class Clustered:
    """Codes of one row a Gaussian, the rows, and the mean cosine of a feature and its row."""

    codes: SparseCode
    codebook: Codebook
    cosine: float


def cluster(features: Features, count: int, space: str, size: int = MAX_CODEBOOK) -> Clustered:
    """Dense features of `count` Gaussians as at most `size` codebook rows, by k-means.

    Features count by their direction; one of length 0 is no evidence. Rows are made from a sample
    of SAMPLE features. What is lost is the distance to the nearest row: its mean cosine is logged.
    """
    every = max(1, -(-count // SAMPLE))
    sample, start = [], 0
    for block in features():
        sample.append(_unit(block[-start % every :: every]))
        start += len(block)
    known = np.concatenate(sample)
    known = known[known.any(axis=1)]
    if not len(known):
        raise SceneFileError("all features are 0")
    rows = np.unique(_unit(palette_of(known, min(size, len(known)))[0]), axis=0)
    ids, total = np.full(count, NO_ID, np.int16), 0.0
    start = 0
    for block in features():
        unit = _unit(block)
        cosines = unit @ rows.T
        best = cosines.argmax(axis=1)
        seen = unit.any(axis=1)
        ids[start : start + len(block)] = np.where(seen, best, NO_ID)
        total += float(cosines[np.arange(len(best)), best][seen].sum(dtype=np.float64))
        start += len(block)
    evidence = ids != NO_ID
    mean = total / max(1, int(evidence.sum()))
    counts = np.bincount(ids[evidence], minlength=len(rows)).astype(np.float32)
    book = nameless(counts, rows, space)
    weights = evidence[:, None].astype(np.float32)
    codes = from_pairs(ids[:, None], weights, 1, code_gram(book))
    _log.warning(
        "%d features of %d numbers became %d codebook rows, with a mean cosine of %.3f",
        count, rows.shape[1], len(rows), mean,
    )  # fmt: skip
    return Clustered(codes, book, mean)


def instances_of(labels: Int16[np.ndarray, " n"] | np.ndarray) -> np.ndarray:
    """Labels (below 0 for none) numbered by size: 0 for the largest, -1 for none; int32."""
    present, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    counts = np.where(present < 0, -1, counts)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(present), np.int32)
    rank[order] = np.arange(len(present))
    rank[present < 0] = NO_ID
    return rank[inverse].astype(np.int32)


def _unit(rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
