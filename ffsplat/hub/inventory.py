"""Which models there are, what of them is on this machine, and how to remove that."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ffsplat.errors import OutputError, UsageError, WeightsMissing
from ffsplat.hub.cache import Store, cache_folder
from ffsplat.hub.download import Wanted
from ffsplat.hub.folder import folder_license
from ffsplat.hub.licenses import UNKNOWN, is_accepted
from ffsplat.hub.locate import BUNDLED, local_folder, parts_of, wanted_parts
from ffsplat.zoo import COMPOSITES, FILES, GEOMETRY, is_non_commercial, published


@dataclass(frozen=True)
class Part:
    """One repository of a model, or its folder; `files` are those that are on this machine.

    `revision` is the commit that is cached, or else what would be asked for.
    """

    place: str
    revision: str
    license: str
    summary: str
    complete: bool
    files: tuple[Path, ...]

    @property
    def non_commercial(self) -> bool:
        """Whether the licence excludes commercial use."""
        return is_non_commercial(self.license)

    @property
    def accepted(self) -> bool:
        """Whether the licence leaves the user free, or the user has accepted it."""
        return not self.non_commercial or is_accepted(self.place, self.license)


@dataclass(frozen=True)
class Entry:
    """A model by name: its geometry, and the text encoder that is fetched with it."""

    name: str
    parts: tuple[Part, ...]
    text_space: str | None

    @property
    def complete(self) -> bool:
        """Whether all of it is here, so that it needs no network."""
        return all(part.complete for part in self.parts)

    @property
    def license(self) -> str:
        """SPDX expression of the licences of its parts."""
        return " AND ".join(dict.fromkeys(part.license for part in self.parts))

    @property
    def bytes(self) -> int:
        """Size of what is here."""
        return sum(file.stat().st_size for part in self.parts for file in part.files)


@dataclass(frozen=True)
class Removed:
    """A repository whose entries were deleted from the cache, and the bytes that this freed."""

    repository: str
    commits: tuple[str, ...]
    bytes: int


def inventory() -> list[Entry]:
    """The models that have names: bundled, published, and those with an open vocabulary."""
    names = (*BUNDLED, *(entry.name for entry in GEOMETRY), *COMPOSITES)
    return [describe(name) for name in names]


def describe(name: str, again: bool = False) -> Entry:
    """What is known of a model, and what of it is here; with `again`, compared with its digests.

    Raises UsageError for what is no name of a model, and WeightsDamaged.
    """
    wanted = parts_of(name)
    folder = local_folder(wanted.geometry)
    if folder is not None:
        return Entry(name, (_folder_part(wanted.geometry, folder),), wanted.text_space)
    parts = tuple(_hub_part(one, again) for one in wanted_parts(wanted))
    return Entry(name, parts, wanted.text_space)


def remove(name: str) -> list[Removed]:
    """Delete all revisions of a model, and nothing else, from the hub's cache.

    Of a model with an open vocabulary the text encoder goes as well. Raises UsageError for a model
    that lies elsewhere, WeightsMissing if nothing of it is cached, and OutputError, before anything
    is deleted, if an entry leads out of the cache.
    """
    wanted = parts_of(name)
    if local_folder(wanted.geometry) is not None:
        where = "comes with the package" if wanted.geometry in BUNDLED else "is a folder"
        raise UsageError(f"{wanted.geometry} {where}", "only what is in the hub's cache is removed")
    repositories = [one.repository for one in wanted_parts(wanted)]
    cached = _scanned(repositories)
    if not cached:
        raise WeightsMissing(f"nothing of {name} is in the local cache {cache_folder()}")
    return [_delete(scan, repository) for scan, repository in cached]


def _folder_part(name: str, folder: Path) -> Part:
    files = tuple(folder / file for file in FILES if (folder / file).is_file())
    summary = "our own any-view network" if name in BUNDLED else "a folder on this machine"
    return Part(str(folder), "", folder_license(folder), summary, True, files)


def _hub_part(one: Wanted, again: bool) -> Part:
    store, entry, snapshot = Store(one.repository), published(one.repository), one.cached()
    names = (*one.required, *one.optional)
    commit = store.commit(one.revision)
    folder = store.snapshot(commit) if commit else None
    files = tuple(folder / name for name in names if (folder / name).is_file()) if folder else ()
    if again and commit:
        store.verify(commit, names, again=True)
    if entry:
        license = entry.license
    elif snapshot is None:
        license = UNKNOWN
    else:
        license = folder_license(snapshot, one.repository)
    summary = entry.summary if entry else "a repository on the hub"
    revision = commit or one.revision
    return Part(one.repository, revision, license, summary, snapshot is not None, files)


def _scanned(repositories: Iterable[str]) -> list[tuple[Any, Any]]:
    """The cache as huggingface_hub sees it, with each of the repositories that it finds there."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        scan = scan_cache_dir(cache_folder())
    except CacheNotFound:
        return []
    wanted = {("model", repository) for repository in repositories}
    return [(scan, repo) for repo in scan.repos if (repo.repo_type, repo.repo_id) in wanted]


def _delete(scan: Any, repository: Any) -> Removed:
    commits = tuple(sorted(revision.commit_hash for revision in repository.revisions))
    # Alone: copies of a repository have its commits, and the plan would take the first it finds.
    plan = replace(scan, repos=frozenset({repository})).delete_revisions(*commits)
    inside = cache_folder().resolve()
    for path in (*plan.repos, *plan.snapshots, *plan.refs, *plan.blobs):
        if not path.resolve().is_relative_to(inside):
            raise OutputError(
                f"{path} leads out of the hub's cache; nothing was removed",
                "remove the link by hand if it is not yours",
            )
    plan.execute()
    return Removed(repository.repo_id, commits, plan.expected_freed_size)
