"""The bytes of one file: begun, broken off, resumed, compared with their digest, put in the cache.

huggingface_hub's own downloads start anew in every process, can hang on a server that trickles, and
do not compare contents with digests; so this part is ours. Where things lie stays theirs.
"""

import logging
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ffsplat.errors import OutputError, WeightsDamaged
from ffsplat.hub.cache import Store, digest_of
from ffsplat.hub.remote import COMMIT, SHA256, Remote, RemoteFile, file_url, opened, tag_of
from ffsplat.hub.watch import Busy, Unreachable, Watch

PIECE = 1 << 16
"""Bytes that count as a sign of life: a connection slower than this per patience is a dead one."""

TRIES = 5
"""Times that a broken transfer is taken up again without having gained a byte."""

PAUSE = 0.5

_log = logging.getLogger(__name__)

Count = Callable[[int], Any]
"""Told how many bytes more are there; fewer, where a server makes us start again."""


def fetch(remote: Remote, file: RemoteFile, store: Store, watch: Watch, count: Count) -> None:
    """Bring a file into the snapshot of its commit, unless it is there; resume what was begun.

    Raises WeightsDamaged if its content or size is not what the hub promises, OutputError if the
    cache cannot be written, and what `remote.opened` raises.
    """
    if (store.snapshot(remote.commit) / file.name).is_file():
        count(file.size)
        return
    name = file.sha256 or file.git_sha1 or f"{remote.commit}.{file.name}"
    with writing(store.folder):
        store.blob(name).parent.mkdir(parents=True, exist_ok=True)
        with _locked(store.lock(name), store.blob(name), watch):
            if store.blob(name).is_file():
                count(file.size)
                store.link(remote.commit, file.name, name)
                return
            digest = _complete(remote, file, store.blob(f"{name}.incomplete"), watch, count)
            store.blob(f"{name}.incomplete").replace(store.blob(digest))
            store.link(remote.commit, file.name, digest)
            store.record(remote.commit, file, digest)


def free_space(files: list[RemoteFile], folder: Path) -> None:
    """Raise OutputError if the disk cannot hold the files."""
    needed = sum(file.size for file in files)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"no space left on {folder} (the weights need {needed / 1e6:.0f} MB,"
            f" {free / 1e6:.0f} MB free); nothing was downloaded",
            "let HF_HUB_CACHE name a folder on a larger disk",
        )


@contextmanager
def writing(folder: Path):
    """Turn what the system says of a folder that cannot be written into OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write to the hub's cache {folder}: {error.strerror or error}",
            "let HF_HUB_CACHE name another folder",
        ) from error


@contextmanager
def _locked(lock: Path, blob: Path, watch: Watch):
    """Be the only process that downloads this content; while another does, its gain is ours."""
    from huggingface_hub.utils import WeakFileLock

    lock.parent.mkdir(parents=True, exist_ok=True)
    seen = -1
    while True:
        try:
            guard = WeakFileLock(lock, timeout=0.1)
            guard.__enter__()
            break
        except TimeoutError:
            watch.check()
            # Ours write to <digest>.incomplete, huggingface_hub to <digest>.<random>.incomplete.
            size = sum(map(_size, blob.parent.glob(f"{blob.name}*.incomplete")))
            if size != seen:
                seen = size
                watch.alive()
    try:
        yield
    finally:
        guard.__exit__(None, None, None)


def _complete(remote: Remote, file: RemoteFile, part: Path, watch: Watch, count: Count) -> str:
    """Fill `part` with the file and return its digest, which was compared with those promised."""
    resumed = 0 < _size(part) <= file.size
    count(_size(part) if resumed else 0)
    tag = _transfer(remote, file, part, watch, count)
    promised = file.sha256 or file.git_sha1 or tag
    if not (SHA256.fullmatch(promised) or COMMIT.fullmatch(promised)):
        _log.warning("the hub promises no digest of %s, so it was not compared", file.name)
        return digest_of(part, sha256=True, sign=watch.alive)
    if digest_of(part, len(promised) == 64, watch.alive) == promised:
        return promised
    part.unlink()
    if resumed:  # what was begun earlier may have been at fault: once more from the start
        count(-file.size)
        return _complete(remote, file, part, watch, count)
    kind = "sha256" if len(promised) == 64 else "git hash"
    raise WeightsDamaged(
        f"{file.name} of {remote.repository} arrived damaged: its {kind} is not"
        f" {promised[:12]}..., which the hub promises",
        "it was not kept; try again, and if this persists, the hub or the network is at fault",
    )


def _transfer(remote: Remote, file: RemoteFile, part: Path, watch: Watch, count: Count) -> str:
    """Append to `part` what it lacks, however often the connection breaks; the hub's ETag or ""."""
    tries, tag = TRIES, ""
    if _size(part) > file.size:
        part.unlink()
    while (have := _size(part)) < file.size or not part.exists():
        try:
            tag = _append(remote, file, part, watch, count) or tag
        except Unreachable as error:
            tries = TRIES if _size(part) > have else tries - 1
            wait = error.wait if isinstance(error, Busy) else PAUSE
            if tries == 0 or wait > watch.patience:
                raise
            watch.sleep(wait)
    return tag


def _append(remote: Remote, file: RemoteFile, part: Path, watch: Watch, count: Count) -> str:
    start = _size(part)
    url = file_url(remote.repository, remote.commit, file.name)
    with opened(url, remote.repository, remote.commit, watch, start) as answer:
        tag = tag_of(answer)
        if start and answer.status_code != 206:  # the server cannot resume
            count(-start)
            start = 0
        announced = answer.headers.get("Content-Length", "")
        if announced.isdecimal() and len(announced) < 16 and start + int(announced) != file.size:
            raise WeightsDamaged(
                f"{file.name} of {remote.repository} should have {file.size} bytes,"
                f" but {start + int(announced)} are announced",
                "the hub, or something between it and here, is at fault; try again later",
            )
        with part.open("r+b" if start else "wb", buffering=0) as target:
            target.seek(start)
            _copy(answer, target, file.size - start, watch, count)
    return tag


def _copy(answer: Any, target: Any, most: int, watch: Watch, count: Count) -> None:
    """Write at most so many bytes of a body; tell the watch of every `PIECE`."""
    done = marked = 0
    for chunk in answer.iter_raw():
        watch.check()
        chunk = chunk[: most - done]
        with writing(Path(target.name).parent):
            target.write(chunk)
        count(len(chunk))
        done += len(chunk)
        if done - marked >= PIECE or done == most:
            marked = done
            watch.alive()
        if done == most:
            return
    if done < most:
        raise Unreachable("the connection broke")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
