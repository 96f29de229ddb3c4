"""Shards in, the same clips with one more teacher out."""

import re
from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path

import torch

from data.clip import Clip
from data.shards import ShardDataset, write_shards, written_keys
from data.shards.cache import LocalFolder
from data.shards.index import ShardIndex
from data.teachers.dense_clip import load_dense_clip
from data.teachers.dense_vit import load_dense_vit
from data.teachers.name import NetworkName
from data.teachers.network import DenseNetwork
from data.teachers.record import Record, read_records, write_records
from data.teachers.weights import RANDOM, Weights, fingerprint
from ffsplat.errors import UsageError

SHARDS = "taught"
"""What the new shards are called."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,78}")


def open_network(
    name: NetworkName, weights: Weights, shorter: int | None = None, device: str = "cpu"
) -> tuple[DenseNetwork, Record]:
    """A teacher on a device, and what is recorded of it; errors are those of its loader.

    Random weights lie in a space of their own, which no text reaches.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is there", "--device cpu")
    load = load_dense_clip if name.kind == "open_clip" else load_dense_vit
    network, path = load(name, weights)
    space = (name if path else replace(name, tag=RANDOM)).space
    return network.to(device), Record(space, network.width, fingerprint(path), shorter or 0)


def teach(
    dataset: ShardDataset, out: Path, name: str, network: DenseNetwork, record: Record
) -> ShardIndex:
    """Write all clips to `out` with the features of `network` as teacher `name`.

    An interrupted run goes on where it stopped. Image files are kept as they are; depth moves by
    rounding alone. Raises UsageError for a name that the clips have already, OutputError and
    ShardError as `write_shards`.
    """
    known = read_records(dataset.folder.path) if isinstance(dataset.folder, LocalFolder) else {}
    check_name(name, dataset)
    stored = written_keys(out, SHARDS)
    write_records(out, known | {name: record}, started=bool(stored))
    return write_shards(_taught(dataset, name, network, record.shorter, stored), out, SHARDS)


def check_name(name: str, dataset: ShardDataset) -> None:
    """Raise UsageError unless a teacher may be called so: the first clip tells what is taken."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"not a name for a teacher: {name!r:.80}", "letters, digits, _ and -")
    if len(dataset):
        _check_free(name, dataset[0])


def _check_free(name: str, clip: Clip) -> None:
    if name in clip.teachers:
        raise UsageError(f"clip {clip.key} has a teacher {name!r} already", "--name another")


def _taught(
    dataset: ShardDataset, name: str, network: DenseNetwork, shorter: int, stored: Set[str]
) -> Iterator[Clip]:
    for number, key in enumerate(key for shard in dataset.index.shards for key in shard.keys):
        if key in stored:
            continue
        clip = dataset.with_photos(number)
        _check_free(name, clip)
        features = network.maps(clip.images, shorter or None)
        yield replace(clip, teachers={**clip.teachers, name: features})
