"""Where shards may lie: in a local folder, or behind https and a few schemes of fsspec.

WebDataset runs `pipe:` addresses in a shell and hands others to curl; here an address is only ever
opened by Python, and only if its scheme is on the list. Chains of fsspec (`::`) are refused, and
https is never left by a redirect.
"""

import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from io import BufferedReader
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import fsspec

from data.shards.errors import ShardError
from data.shards.index import INDEX, MAX_INDEX, Shard
from ffsplat.errors import FFSplatError, UsageError
from ffsplat.io.header import open_regular, read_limited

SCHEMES = ("https", "s3", "gs", "az", "hf", "memory")
"""What remote addresses may begin with, besides `file:///`."""
PATIENCE = 60.0
"""Seconds without a byte after which an https server counts as dead."""

_CHUNK = 1 << 20
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def index(self) -> bytes:
        """The content of the index."""
        return read_limited(self.path / INDEX, MAX_INDEX)

    def open(self, shard: Shard) -> BufferedReader:
        """A shard, open for seeking; its size is checked, its sha256 only by `verify_shards`."""
        file = open_regular(self.path / shard.name)
        size = os.fstat(file.fileno()).st_size
        if size != shard.size:
            file.close()
            raise ShardError(f"{self.path / shard.name} has {size} bytes, not {shard.size}")
        return file


def parse_address(address: str | Path) -> Path | str:
    """The folder that an address names: a path, or a remote address without a slash at its end.

    An address may also name the folder's `index.json`. Raises UsageError for whatever is not a
    path, `file:///...` or one of SCHEMES.
    """
    if isinstance(address, Path):
        return address.parent if address.name == INDEX else address
    if not address.isprintable() or not address or "::" in address:
        raise _refusal(address)
    match = _SCHEME.fullmatch(address)
    if match is None:
        return parse_address(Path(address))
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file" and rest.startswith("///") and unquote(rest).isprintable():
        return parse_address(Path(unquote(rest[2:])))
    parts = urlsplit(address)
    if scheme not in SCHEMES or not rest.startswith("//") or not parts.netloc:
        raise _refusal(address)
    if set(rest) & set("?#\\") or (scheme == "https" and "@" in parts.netloc):
        raise UsageError(
            f"address {address!r:.120} has a query or a password in it",
            "credentials come from the environment, as fsspec's libraries read them",
        )
    return f"{scheme}:{rest}".removesuffix(INDEX).rstrip("/")


def download(address: str, limit: int) -> Iterator[bytes]:
    """The content of a remote file in chunks; ShardError beyond `limit` bytes, or if it fails."""
    total = 0
    try:
        with _open(address) as source:
            while chunk := source.read(_CHUNK):
                total += len(chunk)
                if total > limit:
                    raise ShardError(f"{address} is longer than {limit} bytes")
                yield chunk
    except FFSplatError:
        raise
    except ImportError as error:
        raise ShardError(f"cannot read {address}: {error}", "install that library") from error
    except Exception as error:  # whatever the library of a scheme raises
        reason = str(error)[:200] or type(error).__name__
        raise ShardError(f"cannot read {address}: {reason}") from error


def _refusal(address: str) -> UsageError:
    return UsageError(
        f"not an address of shards: {address!r:.120}",
        f"a folder, file:///folder or {', '.join(scheme + '://' for scheme in SCHEMES)}",
    )


def _open(address: str) -> AbstractContextManager[IO[bytes]]:
    scheme = address.split(":")[0]
    if scheme == "https":
        return urllib.request.build_opener(_HttpsOnly).open(address, timeout=PATIENCE)
    return fsspec.filesystem(scheme).open(address, "rb")


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https alone."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urlsplit(newurl).scheme != "https":
            raise ShardError(f"{req.full_url} leads away from https, to {newurl!r:.120}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
