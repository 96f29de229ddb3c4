"""What is wrong with a shard."""

from ffsplat.errors import FFSplatError


class ShardError(FFSplatError):
    """A shard, its index or a clip in it breaks the format, or cannot be fetched."""
