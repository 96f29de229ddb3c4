"""The index beside a set of shards: what is in which file, where, and how to know it again."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64

from data.clip import KEY
from data.shards.errors import ShardError
from data.shards.members import BLOCK, MAX_CLIP_BYTES, Sample

FORMAT = "ffsplat.shards 1"
INDEX = "index.json"
MAX_INDEX = 1 << 28
"""Bytes of an index: about four million clips."""

_SHARD = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}\.tar")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Shard:
    """One tar file. `name` has no folder in it, `size` is in bytes.

    `spans` has offset, size and CRC-32 of the members of each clip; `keys` names the clips.
    """

    name: str
    size: int
    sha256: str
    keys: tuple[str, ...]
    spans: Int64[np.ndarray, "n 3"]

    def __len__(self) -> int:
        return len(self.keys)

    def sample(self, row: int) -> Sample:
        """A clip of the shard by its place in it."""
        return Sample(self.keys[row], *self.spans[row].tolist())


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """All shards of a set. Clips are numbered through, in the order of the shards."""

    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.shards else 0

    @cached_property
    def ends(self) -> Int64[np.ndarray, " shards"]:
        """The number after that of the last clip of each shard."""
        return np.cumsum([len(shard) for shard in self.shards], dtype=np.int64)

    def locate(self, number: int) -> tuple[Shard, Sample]:
        """Where a clip stands; IndexError beyond the last."""
        if not 0 <= number < len(self):
            raise IndexError(f"clip {number} of {len(self)}")
        shard = int(np.searchsorted(self.ends, number, side="right"))
        row = number - int(self.ends[shard]) + len(self.shards[shard])
        return self.shards[shard], self.shards[shard].sample(row)


def make_shard(name: str, size: int, sha256: str, samples: list[Sample]) -> Shard:
    """The entry of a shard that holds these samples."""
    spans = [(sample.offset, sample.size, sample.crc32) for sample in samples]
    keys = tuple(sample.key for sample in samples)
    return Shard(name, size, sha256, keys, np.array(spans, np.int64).reshape(-1, 3))


def encode_index(index: ShardIndex) -> bytes:
    """The content of `index.json`, one shard a line."""
    lines = [
        json.dumps(
            {
                "name": shard.name,
                "count": len(shard),
                "bytes": shard.size,
                "sha256": shard.sha256,
                "samples": [[k, *s] for k, s in zip(shard.keys, shard.spans.tolist(), strict=True)],
            }
        )
        for shard in index.shards
    ]
    return (
        f'{{"format": "{FORMAT}", "shards": [\n'.encode() + ",\n".join(lines).encode() + b"\n]}\n"
    )


def parse_index(content: bytes, name: str) -> ShardIndex:
    """Read `index.json`; ShardError, which names it by `name`, unless every entry makes sense.

    Shards are plain file names and clips have keys of their own; the members of a shard's clips
    stand one after the other from its first byte on and end within it.
    """
    try:
        match json.loads(content):
            case {"format": "ffsplat.shards 1", "shards": [_, *_] as listed, **rest} if not rest:
                shards = tuple(_parse_shard(entry) for entry in listed)
            case _:
                raise ValueError(f"it is not marked as {FORMAT}, or lists no shards")
        _check_unique([shard.name for shard in shards], "shard")
        _check_unique([key for shard in shards for key in shard.keys], "clip")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ShardError(f"{name} is not an index of shards: {str(error)[:200]}") from error
    return ShardIndex(shards)


def _parse_shard(entry: Any) -> Shard:
    match entry:
        case {
            "name": str(name),
            "count": int(count),
            "bytes": int(size),
            "sha256": str(sha256),
            "samples": [_, *_] as samples,
            **rest,
        } if not rest:
            pass
        case _:
            raise ValueError(f"an entry with missing, unknown or mistyped fields: {entry!r:.80}")
    if not _SHARD.fullmatch(name):
        raise ValueError(f"{name!r:.80} is not the plain name of a tar file")
    if not _SHA256.fullmatch(sha256) or count != len(samples):
        raise ValueError(f"{name}: sha256 is malformed or count is not the number of samples")
    keys, spans = zip(*((key, tuple(span)) for key, *span in samples), strict=True)
    if not all(isinstance(key, str) and KEY.fullmatch(key) for key in keys):
        raise ValueError(f"{name}: a sample has no proper key")
    if not all(len(span) == 3 and all(type(n) is int for n in span) for span in spans):
        raise ValueError(f"{name}: samples are key, offset, size and CRC-32")
    shard = Shard(name, size, sha256, keys, np.array(spans, np.int64))
    _check_spans(shard)
    return shard


def _check_spans(shard: Shard) -> None:
    """Clips stand without gaps, in whole blocks, before the two empty ones at the end."""
    offsets, sizes, checksums = shard.spans.T
    ends = np.cumsum(sizes.astype(object))  # exact, whatever the file claims
    whole = (sizes > 0) & (sizes <= MAX_CLIP_BYTES) & (sizes % BLOCK == 0)
    if not whole.all() or offsets[0] != 0 or (offsets[1:] != ends[:-1]).any():
        raise ValueError(f"{shard.name}: samples overlap, leave gaps or have absurd sizes")
    if ends[-1] + 2 * BLOCK > shard.size:
        raise ValueError(f"{shard.name}: samples reach beyond its {shard.size} bytes")
    if not ((checksums >= 0) & (checksums < 1 << 32)).all():
        raise ValueError(f"{shard.name}: a CRC-32 has 32 bits")


def _check_unique(names: list[str], what: str) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"{what} {twice[0]} stands there twice")
