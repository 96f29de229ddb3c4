"""Shards: clips of any source in tar files that WebDataset reads too, and their order in training.

Made of `codec` (a clip as parts: `meta`, `pictures`), `members` (parts in a tar file), `index`
(what is where), `writer`, `opener` and `cache` (local and remote folders), `dataset` (clips by
number, and the check of all) and `order` (which clip comes when).
"""

from data.shards.cache import Cache
from data.shards.codec import decode_clip, encode_clip
from data.shards.dataset import ShardDataset, Verdict, verify_shards
from data.shards.errors import ShardError
from data.shards.index import ShardIndex
from data.shards.order import EndlessOrder, ordered_indices
from data.shards.writer import MAX_COUNT, write_shards, written_keys

__all__ = [
    "MAX_COUNT",
    "Cache",
    "EndlessOrder",
    "ShardDataset",
    "ShardError",
    "ShardIndex",
    "Verdict",
    "decode_clip",
    "encode_clip",
    "ordered_indices",
    "verify_shards",
    "write_shards",
    "written_keys",
]
