"""Writing shards: clips in, tar files of about equal size and their index out."""

import hashlib
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import BinaryIO

from webdataset.writer import TarWriter

from data.clip import Clip
from data.shards.codec import encode_clip
from data.shards.errors import ShardError
from data.shards.index import INDEX, Shard, ShardIndex, encode_index, make_shard, parse_index
from data.shards.members import END, MAX_CLIP_BYTES, Sample, scan
from data.shards.pictures import ImageFormat
from ffsplat.errors import FFSplatError, OutputError, UsageError
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import open_regular

MAX_COUNT = 1000
"""Clips in a shard."""
MAX_BYTES = 512 << 20
"""Bytes in a shard, unless a single clip has more."""

_NAME = re.compile("[A-Za-z0-9_-]{1,100}")


def written_shards(folder: Path, name: str) -> list[Shard]:
    """The shards `NAME-000000.tar`, ... that an unfinished run left complete, read through.

    Raises OutputError if the folder has an index and so is finished, or holds shards that no run
    of this name leaves; ShardError for a damaged one.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"not a name for shards: {name!r:.80}", "letters, digits, _ and -")
    if (folder / INDEX).exists():
        raise OutputError(f"{folder} holds a finished set of shards", "name another folder")
    found = sorted(path.name for path in folder.glob("*.tar"))
    expected = [_file_name(name, number) for number in range(len(found))]
    if found != expected:
        odd = sorted({*found} - {*expected})[0]
        raise OutputError(f"{folder / odd} does not belong to a run that can go on")
    return [_scan(folder / file) for file in found]


def write_shards(
    clips: Iterable[Clip],
    folder: Path,
    name: str = "clips",
    *,
    max_count: int = MAX_COUNT,
    max_bytes: int = MAX_BYTES,
    image_format: ImageFormat = "png",
) -> ShardIndex:
    """Write clips to `NAME-000000.tar`, ... and at last their `index.json`.

    A shard ends before the clip with which it would have more than `max_count` clips or
    `max_bytes` bytes; it appears complete. An interrupted run goes on if it is given the same
    clips again, or those that `written_keys` lacks: clips that are there already are passed over,
    and the files are those of an unbroken run. Raises OutputError as `written_shards` and
    `atomic_output`, ShardError for clips that cannot be encoded, stand there twice, or are none.
    """
    if max_count < 1 or max_bytes < 1:
        raise UsageError(f"a shard of {max_count} clips or {max_bytes} bytes at most")
    shards = written_shards(folder, name)
    _make_folder(folder)
    stored = {key for shard in shards for key in shard.keys}
    groups = _groups(clips, stored, image_format)
    group = _next(groups)
    for number in count(len(shards)):
        if group is None:
            break
        path = folder / _file_name(name, number)
        with atomic_output(path) as file:
            growing = _Growing(file)
            while group is not None and growing.fits(group[1], max_count, max_bytes):
                growing.add(*group)
                group = _next(groups)
            shards.append(growing.close(path.name))
    if not shards:
        raise ShardError("there are no clips to write")
    content = encode_index(ShardIndex(tuple(shards)))
    index = parse_index(content, f"the index of {folder}")
    with atomic_output(folder / INDEX) as file:
        file.write(content)
    return index


def written_keys(folder: Path, name: str) -> set[str]:
    """The clips that an unfinished run has stored: they need not be made again."""
    return {key for shard in written_shards(folder, name) for key in shard.keys}


def pack(key: str, parts: Mapping[str, bytes]) -> bytes:
    """The members `KEY.<part>` of one clip, sorted by part; the same bytes for the same parts."""
    content = io.BytesIO()
    with TarWriter(content, encoder=False, mtime=0) as writer:
        writer.write({"__key__": key, **parts})
        size = writer.tarstream.offset
    return content.getvalue()[:size]  # without the end of an archive


class _Growing:
    """A shard while it is written."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.size = 0
        self.digest = hashlib.sha256()
        self.samples: list[Sample] = []

    def fits(self, content: bytes, max_count: int, max_bytes: int) -> bool:
        """Whether one more clip may stand in this shard; the first always may."""
        grown = self.size + len(content) + len(END)
        return not self.samples or (len(self.samples) < max_count and grown <= max_bytes)

    def add(self, key: str, content: bytes) -> None:
        self.samples.append(Sample(key, self.size, len(content), zlib.crc32(content)))
        self._write(content)

    def close(self, name: str) -> Shard:
        self._write(END)
        return make_shard(name, self.size, self.digest.hexdigest(), self.samples)

    def _write(self, content: bytes) -> None:
        self.file.write(content)
        self.digest.update(content)
        self.size += len(content)


def _groups(
    clips: Iterable[Clip], stored: set[str], image_format: ImageFormat
) -> Iterator[tuple[str, bytes]]:
    """Key and members of the clips that are not stored yet."""
    seen: set[str] = set()
    for clip in clips:
        if clip.key in seen:
            raise ShardError(f"clip {clip.key} stands there twice")
        seen.add(clip.key)
        if clip.key not in stored:
            content = pack(clip.key, encode_clip(clip, image_format))
            if len(content) > MAX_CLIP_BYTES:
                raise ShardError(f"clip {clip.key} has more than {MAX_CLIP_BYTES >> 20} MB")
            yield clip.key, content


def _next(groups: Iterator[tuple[str, bytes]]) -> tuple[str, bytes] | None:
    """The next clip; what fails in its source must not pass for a failure to write."""
    try:
        return next(groups, None)
    except OSError as error:
        raise FFSplatError(f"cannot read the source of the clips: {error}") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error


def _file_name(name: str, number: int) -> str:
    return f"{name}-{number:06d}.tar"


def _scan(path: Path) -> Shard:
    try:
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            return make_shard(path.name, size, digest, list(scan(file, size)))
    except ShardError as error:
        hint = "it was not left by an interrupted run; move it away"
        raise ShardError(f"{path}: {error}", hint) from error
