"""Weights from the hub: several repositories in one go, described, allowed, announced, fetched."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffsplat.errors import CheckpointError, WeightsMissing
from ffsplat.hub.cache import Store, cache_folder
from ffsplat.hub.licenses import require_license
from ffsplat.hub.remote import Remote, RemoteFile, describe
from ffsplat.hub.transfer import fetch, free_space, writing
from ffsplat.hub.watch import Watch
from ffsplat.weights import PICKLES
from ffsplat.zoo import CARD, CODEBOOK, CONFIG, WEIGHTS

PATIENCE = 2.5
"""Seconds without a sign of life after which a network counts as dead; with what it takes to load
the hub's library, it then costs less than 3."""

STALL = 30.0
"""Seconds without progress after which a download that the user asked for by name is given up."""

MAX_SMALL = 1 << 20
"""Largest configuration or card, in bytes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """Files of a repository at a revision; without its configuration, only the weights are wanted.

    `follow` asks the hub what the revision is now; else the commit of the first download stays.
    """

    repository: str
    revision: str
    follow: bool = False
    weights: str = WEIGHTS
    configured: bool = True

    @property
    def required(self) -> tuple[str, ...]:
        """Files without which nothing works; the weights last, so that where they are, all is."""
        return (CONFIG, self.weights) if self.configured else (self.weights,)

    @property
    def optional(self) -> tuple[str, ...]:
        """Files that a repository may have besides."""
        return (CARD, CODEBOOK) if self.configured else (CARD,)

    def cached(self) -> Path | None:
        """The snapshot in the hub's cache if it is complete."""
        return Store(self.repository).find(self.revision, self.required, self.optional)


LicenseOf = Callable[[Wanted, Path], str]
"""The licence of what is wanted, by its configuration and card in a folder."""


def download(
    wanted: Sequence[Wanted], watch: Watch, license_of: LicenseOf, accept: bool, stall: float
) -> list[Path]:
    """Fetch all that is wanted and return the snapshots; what was begun earlier is resumed.

    Nothing large is fetched before the licences are accepted, the disk has room and the size was
    told. `stall` is the patience while bytes arrive. Raises WeightsMissing, LicenseNotAccepted,
    WeightsDamaged, OutputError and Unreachable.
    """
    remotes = [describe(one.repository, one.revision, watch) for one in wanted]
    large: list[tuple[Remote, RemoteFile]] = []
    for one, remote in zip(wanted, remotes, strict=True):
        store, small = Store(one.repository), _files(one, remote)
        large += [(remote, file) for file in small if file.name not in (CONFIG, CARD)]
        for file in small:
            if file.name in (CONFIG, CARD):
                fetch(remote, file, store, watch, lambda _: None)
                watch.alive()
        require_license(one.repository, license_of(one, store.snapshot(remote.commit)), accept)
    _announce(wanted, large)
    watch.patience = stall
    for remote, file in large:
        with progress_bar(file) as bar:
            fetch(remote, file, Store(remote.repository), watch, bar.update)
    for one, remote in zip(wanted, remotes, strict=True):
        store = Store(one.repository)
        with writing(store.folder):
            store.set_ref(one.revision, remote.commit)
        store.verify(remote.commit, one.required + one.optional, watch.alive)
    return [Store(remote.repository).snapshot(remote.commit) for remote in remotes]


def progress_bar(file: RemoteFile):
    """The hub's own bar on stderr, where that is a terminal and bars are not switched off."""
    from huggingface_hub.utils import tqdm

    return tqdm(total=file.size, unit="B", unit_scale=True, desc=file.name, disable=None)


def _files(one: Wanted, remote: Remote) -> list[RemoteFile]:
    """What there is of the files wanted, in the order to fetch them; refuses what cannot do."""
    for name in one.required:
        if name not in remote.files:
            pickles = [f for f in sorted(remote.files) if any(map(Path(f).match, PICKLES))]
            found = f"; it has {pickles[0]}, a pickle, which can run any code" if pickles else ""
            raise WeightsMissing(
                f"{one.repository} has no {name}{found}",
                "only safetensors are loaded; ffsplat convert-weights makes them of a pickle",
            )
    order = [name for name in (*one.optional, *one.required) if name in remote.files]
    files = [remote.files[name] for name in order]
    for file in files:
        if file.name in (CONFIG, CARD) and file.size > MAX_SMALL:
            raise CheckpointError(
                f"{file.name} of {one.repository} has {file.size} bytes, more than {MAX_SMALL}"
            )
    return files


def _announce(wanted: Sequence[Wanted], large: list[tuple[Remote, RemoteFile]]) -> None:
    """Say in one line how much is about to be downloaded, if the disk has room for it."""
    lacking = [
        (remote, file)
        for remote, file in large
        if not (Store(remote.repository).snapshot(remote.commit) / file.name).is_file()
    ]
    files = [file for _, file in lacking]
    free_space(files, cache_folder())
    if size := sum(file.size for file in files):
        names = " and ".join(dict.fromkeys(remote.repository for remote, _ in lacking))
        _log.warning("downloading %s of %s into %s", megabytes(size), names, cache_folder())


def megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
