"""Clips of shards by number, and the check of everything that shards hold."""

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

from torch.utils.data import Dataset

from data.clip import Clip
from data.shards.cache import Cache, open_folder
from data.shards.codec import decode_clip, image_files
from data.shards.errors import ShardError
from data.shards.index import Shard, parse_index
from data.shards.members import Sample, scan, unpack
from ffsplat.errors import FFSplatError


class ShardDataset(Dataset[Clip]):
    """Item i is the i-th clip of a set of shards, read at its byte offset and checked by CRC-32.

    `address` is a local folder or a remote one (`data.shards.opener`), whose shards go through
    `cache`. A file is opened for each read, so nothing is shared with forked or spawned workers.
    """

    def __init__(self, address: str | Path, cache: Cache | None = None):
        """Read the index; an FFSplatError says why if that fails."""
        self.folder = open_folder(address, cache)
        self.index = parse_index(self.folder.index(), f"the index of {self.folder}")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Clip:
        """Read and decode a clip; ShardError names shard and clip if either is damaged."""
        shard, sample = self.index.locate(number)
        with _naming(shard, sample), self.folder.open(shard) as file:
            return _read(file, sample)

    def with_photos(self, number: int) -> Clip:
        """A clip with its image files, so that it can be written again without loss."""
        shard, sample = self.index.locate(number)
        with _naming(shard, sample), self.folder.open(shard) as file:
            parts = _parts(file, sample)
            return replace(decode_clip(sample.key, parts), photos=image_files(parts))


@dataclass(frozen=True)
class Verdict:
    """What became of checking a shard; `fault` is None where all is well."""

    shard: str
    clips: int
    fault: str | None


def verify_shards(address: str | Path, cache: Cache | None = None) -> Iterator[Verdict]:
    """Read everything: size, sha256 and members of every shard, and every clip decoded."""
    dataset = ShardDataset(address, cache)
    for shard in dataset.index.shards:
        try:
            with dataset.folder.open(shard) as file:
                _verify(file, shard)
            yield Verdict(shard.name, len(shard), None)
        except FFSplatError as error:
            yield Verdict(shard.name, len(shard), str(error))


def _verify(file: BufferedReader, shard: Shard) -> None:
    if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
        raise ShardError("its sha256 is not that of the index")
    file.seek(0)
    rows = range(len(shard))
    if list(scan(file, shard.size)) != [shard.sample(row) for row in rows]:
        raise ShardError("its clips are not those of the index")
    for row in rows:
        with _naming(shard, shard.sample(row)):
            _read(file, shard.sample(row))


def _read(file: BufferedReader, sample: Sample) -> Clip:
    return decode_clip(sample.key, _parts(file, sample))


def _parts(file: BufferedReader, sample: Sample) -> dict[str, bytes]:
    file.seek(sample.offset)
    content = file.read(sample.size)
    if len(content) != sample.size or zlib.crc32(content) != sample.crc32:
        raise ShardError("damaged: its bytes are not those that the index knows")
    return unpack(content, sample.key)


@contextmanager
def _naming(shard: Shard, sample: Sample) -> Iterator[None]:
    """Errors within name the shard and the clip."""
    try:
        yield
    except (FFSplatError, OSError) as error:
        hint = error.hint if isinstance(error, FFSplatError) else None
        raise ShardError(f"{shard.name}, clip {sample.key}: {error}", hint) from error
