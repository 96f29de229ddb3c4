"""Remote shards: fetched whole into a folder of limited size, and checked before they are read."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from data.shards.errors import ShardError
from data.shards.index import INDEX, MAX_INDEX, Shard
from data.shards.opener import LocalFolder, download, parse_address
from ffsplat.io.atomic import atomic_output

_TRIES = 3


def _default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ffsplat" / "shards"


@dataclass(frozen=True)
class Cache:
    """A folder of shards named by their sha256, shared by all processes of a machine.

    Beyond `max_bytes` those go that were not used for the longest time; processes that fetch at
    the same moment may exceed it by what they fetch.
    """

    folder: Path = field(default_factory=_default_folder)
    max_bytes: int = 64 << 30

    def open(self, address: str, shard: Shard) -> BufferedReader:
        """A remote shard, open for seeking; fetched first if it is not there."""
        if shard.size > self.max_bytes:
            raise ShardError(
                f"{address} has {shard.size} bytes, more than the cache may hold ({self.max_bytes})"
            )
        try:
            return self._open(address, shard)
        except OSError as error:
            raise ShardError(f"cannot use the cache {self.folder}: {error}") from error

    def _open(self, address: str, shard: Shard) -> BufferedReader:
        path = self.folder / f"{shard.sha256}.tar"
        for _ in range(_TRIES):  # another process may make room between fetching and opening
            try:
                file = path.open("rb")
            except FileNotFoundError:
                self._fetch(address, shard, path)
            else:
                os.utime(file.fileno())
                return file
        raise ShardError(f"{path} vanishes as fast as it is fetched", "allow a larger cache")

    def _fetch(self, address: str, shard: Shard, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock(shard.sha256[:2]):
            if path.is_file():
                return
            with self._lock("room"):
                self._make_room(shard.size)
            digest, size = hashlib.sha256(), 0
            with atomic_output(path, overwrite=True) as file:
                for chunk in download(address, shard.size):
                    digest.update(chunk)
                    size += file.write(chunk)
                if size != shard.size or digest.hexdigest() != shard.sha256:
                    raise ShardError(f"{address} is not what its index says: its sha256 differs")

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """One process goes on, others that ask for the same lock wait for it."""
        with (self.folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make_room(self, size: int) -> None:
        files = sorted((path.stat().st_mtime, path) for path in self.folder.glob("*.tar"))
        total = size + sum(path.stat().st_size for _, path in files)
        for _, path in files:
            if total <= self.max_bytes:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)


class RemoteFolder:
    """A remote address whose shards are read through a cache."""

    def __init__(self, address: str, cache: Cache):
        self.address = address
        self.cache = cache

    def __str__(self) -> str:
        return self.address

    def index(self) -> bytes:
        """The content of the index, fetched anew."""
        return b"".join(download(f"{self.address}/{INDEX}", MAX_INDEX))

    def open(self, shard: Shard) -> BufferedReader:
        """A shard, open for seeking; its sha256 was checked when it was fetched."""
        return self.cache.open(f"{self.address}/{shard.name}", shard)


Folder = LocalFolder | RemoteFolder
"""A place that holds an index and its shards."""


def open_folder(address: str | Path, cache: Cache | None = None) -> Folder:
    """The folder at an address (see `parse_address`); nothing is read yet."""
    place = parse_address(address)
    return LocalFolder(place) if isinstance(place, Path) else RemoteFolder(place, cache or Cache())
