"""A repository's folder in the hub's cache, laid out as huggingface_hub does.

Contents lie in `blobs`, named after the digest that the hub promises; `snapshots/<commit>` links to
them, and `refs` says which commit a branch was when it was last asked for. Programs share this
cache, so weights that another one has downloaded are found. Whoever filled it, a file is used only
after its content has been compared with its digest; the verdict is kept beside the blobs until the
file's size or time changes.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ffsplat.errors import OutputError, WeightsDamaged
from ffsplat.hub.remote import COMMIT, SHA256, RemoteFile
from ffsplat.io.atomic import atomic_output

VERDICTS = "ffsplat-verified.json"
MAX_VERDICTS = 1 << 20
_CHUNK = 1 << 22

Sign = Callable[[], None]
"""Told now and then that work gets on."""


def cache_folder() -> Path:
    """Where the hub's cache lies: HF_HUB_CACHE, else `hub` in HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


class Store:
    """The folder of one model repository in the cache; it need not exist yet."""

    def __init__(self, repository: str):
        self.name = "models--" + repository.replace("/", "--")
        self.folder = cache_folder() / self.name

    def commit(self, revision: str) -> str | None:
        """The commit that a revision had when it was last asked for."""
        if COMMIT.fullmatch(revision):
            return revision
        try:
            commit = (self.folder / "refs" / revision).read_text("ascii").strip()
        except (OSError, ValueError):
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def snapshot(self, commit: str) -> Path:
        """The folder of the files of a commit."""
        return self.folder / "snapshots" / commit

    def find(self, revision: str, required: Iterable[str], optional: Iterable[str]) -> Path | None:
        """The snapshot of a revision if all its files are here; a broken link is no file."""
        commit = self.commit(revision)
        if commit is None:
            return None
        snapshot = self.snapshot(commit)
        here = all((snapshot / name).is_file() for name in required)
        broken = any(
            os.path.lexists(snapshot / name) and not (snapshot / name).is_file()
            for name in optional
        )
        return snapshot if here and not broken else None

    def blob(self, digest: str) -> Path:
        """The file of a content."""
        return self.folder / "blobs" / digest

    def lock(self, digest: str) -> Path:
        """The file that huggingface_hub, too, locks while it downloads a content."""
        return self.folder.parent / ".locks" / self.name / f"{digest}.lock"

    def link(self, commit: str, name: str, digest: str) -> None:
        """Let the snapshot's file be that content, by a link or, where there are none, a move."""
        target, place = self.blob(digest), self.snapshot(commit) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.symlink_to(os.path.relpath(target, place.parent))
        except OSError:
            shutil.move(target, temporary)
        temporary.replace(place)

    def set_ref(self, revision: str, commit: str) -> None:
        """Remember which commit a branch or tag is."""
        if revision == commit:
            return
        place = self.folder / "refs" / revision
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output(place, overwrite=True) as file:
            file.write(commit.encode())

    def verify(
        self, commit: str, names: Iterable[str], sign: Sign = lambda: None, again: bool = False
    ) -> None:
        """Compare the content of files with their digests; with `again`, also if known to be right.

        Raises WeightsDamaged for the first that differs, which is left as it is.
        """
        verdicts = self._verdicts()
        before = dict(verdicts)
        for name in names:
            place = self.snapshot(commit) / name
            if not place.is_file():
                continue
            key, state = f"{commit}/{name}", _state(place)
            known = verdicts.get(key)
            known = known if isinstance(known, dict) else {}
            digest = _name_of_blob(place) or known.get("digest")
            if not isinstance(digest, str) or (not again and known == {"digest": digest, **state}):
                continue
            if digest_of(place, len(digest) == 64, sign) != digest:
                kind = "sha256" if len(digest) == 64 else "git hash"
                raise WeightsDamaged(
                    f"{place} is damaged: its {kind} is not {digest[:12]}...,"
                    " which the hub promises",
                    "nothing was deleted; ffsplat models remove NAME, then download it again",
                )
            verdicts[key] = {"digest": digest, **state}
        if verdicts != before:
            self._keep(verdicts)

    def record(self, commit: str, file: RemoteFile, digest: str) -> None:
        """Remember that a file has just been compared with its digest."""
        state = _state(self.snapshot(commit) / file.name)
        self._keep(self._verdicts() | {f"{commit}/{file.name}": {"digest": digest, **state}})

    def _verdicts(self) -> dict[str, Any]:
        try:
            with (self.folder / VERDICTS).open("rb") as file:
                found = json.loads(file.read(MAX_VERDICTS))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _keep(self, verdicts: dict[str, Any]) -> None:
        try:
            with atomic_output(self.folder / VERDICTS, overwrite=True) as file:
                file.write(json.dumps(verdicts, indent=1).encode())
        except OutputError:
            return  # a cache that is only read is compared at every use


def digest_of(path: Path, sha256: bool, sign: Sign = lambda: None) -> str:
    """SHA-256 of a file, or the SHA-1 that git gives a blob of this content."""
    if sha256:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            sign()
    return digest.hexdigest()


def _state(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "time": status.st_mtime_ns}


def _name_of_blob(place: Path) -> str | None:
    """The digest that a snapshot's link names; None for a file that is no link."""
    try:
        name = place.readlink().name
    except OSError:
        return None
    return name if SHA256.fullmatch(name) or COMMIT.fullmatch(name) else None
