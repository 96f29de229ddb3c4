"""What the hub says: a repository's commit and files, and answers that are errors.

Requests go through huggingface_hub's own session, so its endpoint, token and proxies are honoured.
Answers are read within limits of size, and the watch can end them at any byte.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ffsplat import __version__
from ffsplat.errors import WeightsMissing
from ffsplat.hub.watch import Busy, Unreachable, Watch
from ffsplat.weights import shown

MAX_ANSWER = 4 << 20
MAX_PAGES = 10
TRIES = 3

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT = re.compile(r'<([^>]*)>;\s*rel="next"')


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: bytes, and the digests of its content that the hub promises.

    `sha256` is known of large files, `git_sha1` (that of git's blob) of those that git keeps.
    """

    name: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True)
class Remote:
    """A repository at one commit: the files at its root by name."""

    repository: str
    commit: str
    files: Mapping[str, RemoteFile]


def describe(repository: str, revision: str, watch: Watch) -> Remote:
    """Ask the hub for the commit of a revision, and the files there.

    Raises WeightsMissing if the hub denies them and Unreachable if it gives no sensible answer.
    """
    api = f"{_endpoint()}/api/models/{repository}"
    commit = revision
    if not COMMIT.fullmatch(revision):
        info, _ = _ask(f"{api}/revision/{quote(revision, safe='')}", repository, revision, watch)
        commit = info.get("sha") if isinstance(info, dict) else None
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise Unreachable("the hub names no commit")
    files: dict[str, RemoteFile] = {}
    url = f"{api}/tree/{commit}"
    for _ in range(MAX_PAGES):
        entries, following = _ask(url, repository, revision, watch)
        for entry in entries if isinstance(entries, list) else ():
            file = _file(entry)
            if file:
                files[file.name] = file
        if following is None:
            break
        url = following
    return Remote(repository, commit, files)


@contextmanager
def opened(url: str, repository: str, revision: str, watch: Watch, start: int = 0) -> Iterator[Any]:
    """The hub's answer to a GET from byte `start` on, its body still to be read.

    Raises WeightsMissing and Unreachable as `describe`; redirects are followed, and a token is not
    shown to another host.
    """
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]
    from huggingface_hub.utils import build_hf_headers, get_session

    headers = build_hf_headers(library_name="ffsplat", library_version=__version__)
    headers["Accept-Encoding"] = "identity"
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with get_session().stream("GET", url, headers=headers, timeout=watch.patience) as answer:
            _raise_for_status(answer.status_code, answer.headers, repository, revision)
            yield answer
    except (HTTPError, OSError, ValueError) as error:
        raise Unreachable(shown(str(error) or type(error).__name__)) from error


def file_url(repository: str, commit: str, name: str) -> str:
    """Where the hub serves a file."""
    return f"{_endpoint()}/{repository}/resolve/{commit}/{quote(name)}"


def tag_of(answer: Any) -> str:
    """The digest that the hub's own answer, before any redirect, gives as the file's ETag."""
    first = (answer.history or [answer])[0].headers
    tag = first.get("X-Linked-Etag") or first.get("ETag") or ""
    return tag.removeprefix("W/").strip('"')


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _ask(url: str, repository: str, revision: str, watch: Watch) -> tuple[Any, str | None]:
    """The JSON at an address, and the address of the next page."""
    content, link = _read(url, repository, revision, watch, TRIES)
    watch.alive()
    following = link[1] if link and link[1].startswith(_endpoint()) else None
    try:
        return json.loads(content), following
    except (ValueError, RecursionError):
        raise Unreachable("the answer is not the hub's: a proxy or a login page?") from None


def _read(
    url: str, repository: str, revision: str, watch: Watch, tries: int
) -> tuple[bytes, re.Match[str] | None]:
    """An answer of bounded size, and its link to the next page."""
    content = bytearray()
    try:
        with opened(url, repository, revision, watch) as answer:
            for chunk in answer.iter_raw():
                watch.check()
                content += chunk
                if len(content) > MAX_ANSWER:
                    raise Unreachable(f"the hub answers with more than {MAX_ANSWER} bytes")
            return bytes(content), _NEXT.search(answer.headers.get("Link", ""))
    except Unreachable as error:  # a kept connection may be stale, so one failure proves little
        wait = error.wait if isinstance(error, Busy) else 0.0
        if tries == 1 or wait >= watch.patience:
            raise
        watch.sleep(wait)
    return _read(url, repository, revision, watch, tries - 1)


def _file(entry: Any) -> RemoteFile | None:
    """A file of a tree listing; None for folders and what makes no sense."""
    if not isinstance(entry, dict) or entry.get("type") != "file":
        return None
    name, size, oid, large = (entry.get(key) for key in ("path", "size", "oid", "lfs"))
    large = large if isinstance(large, dict) else {}
    sha256 = large.get("oid") or large.get("sha256")
    size = large.get("size", size)
    if not isinstance(name, str) or type(size) is not int or size < 0:
        return None
    known256 = isinstance(sha256, str) and SHA256.fullmatch(sha256)
    known1 = not large and isinstance(oid, str) and COMMIT.fullmatch(oid)
    return RemoteFile(name, size, sha256 if known256 else None, oid if known1 else None)


def _raise_for_status(status: int, headers: Any, repository: str, revision: str) -> None:
    """WeightsMissing where the hub denies the weights, Unreachable where it has a bad day."""
    if status < 400:
        return
    code, said = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    page = f"{_endpoint()}/{repository}"
    login = "log in first: hf auth login"
    if code == "GatedRepo":
        raise WeightsMissing(
            f"{repository} is gated: its authors ask you to accept their terms",
            f"accept them at {page}, then {login}",
        )
    if code == "RevisionNotFound":
        raise WeightsMissing(f"{repository} has no revision {shown(revision)}")
    if code == "EntryNotFound":
        raise WeightsMissing(f"{repository} lacks a file that it lists")
    if status == 401 and "credentials" in said.lower():
        raise WeightsMissing("the hub refuses your token", "log in again: hf auth login")
    if code == "RepoNotFound" or status in (401, 404):
        raise WeightsMissing(
            f"there is no model {repository} on the hub",
            f"check the name; if it is private or gated, {login}",
        )
    if status == 403:
        raise WeightsMissing(f"the hub refuses access to {repository}", f"see {page}")
    if status == 429:
        wait = headers.get("Retry-After", "")
        seconds = int(wait) if wait.isdecimal() and len(wait) < 9 else 60
        raise Busy(f"the hub asks to come back in {seconds} s (429)", float(seconds))
    raise Unreachable(f"the hub answers with error {status}")
