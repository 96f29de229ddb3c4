"""From a model's name to its folder: bundled, on disk, in the hub's cache, or downloaded."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ffsplat.errors import OutputError, UsageError, WeightsMissing
from ffsplat.hub import download as hub_download
from ffsplat.hub.cache import Store, cache_folder
from ffsplat.hub.download import Wanted, download
from ffsplat.hub.folder import folder_license, weights_path
from ffsplat.hub.licenses import license_of, require_license
from ffsplat.hub.remote import COMMIT
from ffsplat.hub.watch import Unreachable, watched
from ffsplat.weights import shown
from ffsplat.zoo import (
    RECOMMENDED,
    TEXT_ENCODERS,
    WEIGHTS,
    ModelName,
    Published,
    parse_name,
    published,
)

AUTO = "auto"
BUNDLED = ("ffsplat-tiny",)
"""Models whose weights are part of the package."""

HUB, LOCAL = "hf-hub:", "local-dir:"
"""What may stand before a name to say where it is meant."""

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,99}(/[A-Za-z0-9][\w.-]{0,99}){0,4}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFolder:
    """A checkpoint on disk, and what a file made with it records about it.

    `revision` is the commit on the hub, else the start of the weights' sha256; `repository` is
    where on the hub it came from. `text_space` names the space that meaning without training is to
    be lifted to, `text_weights` the safetensors file of its encoder, where it was fetched too.
    """

    path: Path
    name: str
    revision: str
    license: str
    repository: str | None = None
    text_space: str | None = None
    text_weights: Path | None = None

    @property
    def provenance(self) -> dict[str, str]:
        """What a scene made with these weights says of them."""
        facts = {
            "model": self.name,
            "revision": self.revision,
            "license": self.license,
            "repository": self.repository if self.repository != self.name else None,
            "text_encoder": self.text_space,
        }
        return {key: value for key, value in facts.items() if value is not None}


@dataclass(frozen=True)
class _Options:
    offline: bool
    accept_license: bool
    refresh: bool
    stall: float


def resolve(
    name: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    accept_license: bool = False,
    refresh: bool = False,
) -> ModelFolder:
    """Find the folder of a model, downloading it if need be.

    `name` is "auto", a bundled or published model, a folder, or "org/repo" with an optional
    "@revision" on the Hugging Face hub; "+clip" or "+open_clip:<arch>/<tag>" behind it asks for an
    open vocabulary. What is in the hub's cache is used without asking the hub, unless the user
    names a branch or tag or asks to `refresh`: then the cache stands in for a hub that does not
    answer, with a warning. `offline` (or HF_HUB_OFFLINE=1) allows the cache only. "auto" is the
    recommended model, or the bundled one where the former is not to be had.

    A network that does not answer within `download.PATIENCE` seconds counts as dead.
    `accept_license` accepts a non-commercial licence, once for all.

    Raises UsageError for a malformed name, WeightsMissing where the weights are not to be had,
    LicenseNotAccepted, WeightsDamaged where their content is wrong, OutputError where the cache
    cannot be written, and CheckpointError for a broken folder.
    """
    if name == AUTO:
        if revision is not None:
            raise UsageError("auto has no revisions", "only models on the hub have")
        return _auto(_Options(offline, accept_license, refresh, hub_download.PATIENCE))
    options = _Options(offline, accept_license, refresh, hub_download.STALL)
    return _resolve(name, revision, options)


def bundled_folder(name: str) -> Path:
    """The folder of a model that comes with the package; WeightsMissing if it is not there."""
    package = Path(__file__).parents[1]
    for root in (package, package.parent):
        folder = root / "checkpoints" / name
        if (folder / WEIGHTS).is_file():
            return folder
    raise WeightsMissing(f"the weights of {name} are not in this installation")


def repository_of(name: str, revision: str | None = None) -> tuple[Published, bool]:
    """Where on the hub a name without text space lies; whether the user asked for a branch or tag.

    Raises UsageError for what is no name of a model.
    """
    place, at, wanted = name.removeprefix(HUB).partition("@")
    if wanted and revision and wanted != revision:
        raise UsageError(f"two revisions are given: {shown(wanted)} and {shown(revision)}")
    asked = wanted or revision or ""
    entry = published(place)
    if entry is None and REPOSITORY.fullmatch(place):
        entry = Published(place, place, "", "")
    if entry is None or (at and not wanted) or (asked and not _REVISION.fullmatch(asked)):
        what = f"model {shown(name)}" if entry is None else f"revision {shown(asked)}"
        raise UsageError(
            f"there is no {what}",
            f"give auto, {', '.join(BUNDLED)}, a published model (ffsplat models list), a folder,"
            " or org/name[@revision] on the Hugging Face hub",
        )
    return replace(entry, revision=asked or entry.revision), bool(
        asked and not COMMIT.fullmatch(asked)
    )


def wanted_parts(wanted: ModelName, revision: str | None = None) -> list[Wanted]:
    """What a model on the hub consists of: its geometry, and its text encoder if that is fetched.

    Raises UsageError as `repository_of`.
    """
    entry, follow = repository_of(wanted.geometry, revision)
    alone = entry.repository in {encoder.repository for encoder in TEXT_ENCODERS.values()}
    geometry = Wanted(entry.repository, entry.revision, follow, entry.weights, not alone)
    encoder = _encoder(wanted)
    return [geometry, encoder] if encoder else [geometry]


def local_folder(name: str) -> Path | None:
    """The folder that a name without text space means here, bundled or on disk; or None."""
    return bundled_folder(name) if name in BUNDLED else _local(name)


def _auto(options: _Options) -> ModelFolder:
    try:
        return _resolve(RECOMMENDED, None, options)
    except (WeightsMissing, OutputError) as error:
        name = BUNDLED[0]
        folder = _resolve(name, None, options)
        _log.warning("using %s, which comes with the package: %s", name, error)
        return folder


def _resolve(name: str, revision: str | None, options: _Options) -> ModelFolder:
    wanted = parts_of(name)
    geometry = wanted.geometry
    folder = local_folder(geometry)
    if folder is None:
        return _from_hub(wanted, revision, options)
    if revision is not None:
        raise UsageError(f"{geometry} has no revisions", "only models on the hub have")
    license = folder_license(folder)
    with weights_path(folder).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    found = ModelFolder(folder, folder.resolve().name, f"sha256:{digest[:16]}", license)
    encoder = _encoder(wanted)
    encoders = _fetch([encoder], options) if encoder else []
    return _with_text(found, wanted, encoders)


def parts_of(name: str) -> ModelName:
    """A name split into geometry and text space, unless a folder here has that very name."""
    return ModelName(name) if _exists(name) else parse_name(name)


def _local(name: str) -> Path | None:
    """The path that a name means, or None where it means a model on the hub."""
    if name.startswith(HUB):
        return None
    if name.startswith(LOCAL):
        return Path(name.removeprefix(LOCAL))
    if not name.startswith((".", "/", "~")) and not _exists(name):
        return None
    if published(name):
        _log.warning("%s is a folder here; %s%s means the one on the hub", name, HUB, name)
    try:
        return Path(name).expanduser()
    except RuntimeError:  # the home of nobody
        return None


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, the home of nobody, a NUL
        return False


def _encoder(wanted: ModelName) -> Wanted | None:
    """The text encoder that is fetched with a model, if the table of published models has it."""
    entry = TEXT_ENCODERS.get(wanted.text_space or "")
    if entry is None:
        return None
    return Wanted(entry.repository, entry.revision, weights=entry.weights, configured=False)


def _from_hub(wanted: ModelName, revision: str | None, options: _Options) -> ModelFolder:
    entry, _ = repository_of(wanted.geometry, revision)
    parts = wanted_parts(wanted, revision)
    snapshots = _fetch(parts, options)
    license = _license_of(parts[0], snapshots[0])
    found = ModelFolder(
        snapshots[0], entry.name, snapshots[0].name, license, repository=entry.repository
    )
    return _with_text(found, wanted, snapshots[1:])


def _with_text(found: ModelFolder, wanted: ModelName, encoders: Sequence[Path]) -> ModelFolder:
    """The folder of a network, completed by the text space that was asked for."""
    if wanted.text_space is None:
        return found
    entry = TEXT_ENCODERS.get(wanted.text_space)
    short = "clip" if entry else wanted.text_space
    license = found.license
    if entry and entry.license not in license.split(" AND "):
        license = f"{license} AND {entry.license}"
    return replace(
        found,
        name=f"{found.name}+{short}",
        license=license,
        text_space=wanted.text_space,
        text_weights=encoders[0] / entry.weights if entry and encoders else None,
    )


def _license_of(wanted: Wanted, folder: Path) -> str:
    if wanted.configured:
        return folder_license(folder, wanted.repository)
    return license_of(wanted.repository, folder)


def _fetch(wanted: Sequence[Wanted], options: _Options) -> list[Path]:
    """The snapshots of what is wanted: from the cache where it will do, else from the hub."""
    from huggingface_hub import constants

    for one in wanted:  # what the table says of a licence can be said before anything is fetched
        entry = published(one.repository)
        if entry:
            require_license(one.repository, entry.license, options.accept_license)
    offline = options.offline or constants.HF_HUB_OFFLINE
    lacking = [w for w in wanted if w.follow or options.refresh or w.cached() is None]
    if lacking and not offline:
        try:
            watched(
                lambda watch: download(
                    lacking, watch, _license_of, options.accept_license, options.stall
                ),
                hub_download.PATIENCE,
            )
        except Unreachable as error:
            missing = [w for w in lacking if w.cached() is None]
            if missing:
                raise _not_to_be_had(missing, str(error)) from error
            for one in lacking:
                _log.warning("the hub cannot be reached (%s); using %s from the local cache",
                             error, one.repository)  # fmt: skip
    return [_checked(one, offline, options.accept_license) for one in wanted]


def _checked(one: Wanted, offline: bool, accept: bool) -> Path:
    """The snapshot in the cache, its content compared and its licence accepted."""
    snapshot = one.cached()
    if snapshot is None:
        raise _not_to_be_had([one], None if offline else "it vanished from the cache")
    require_license(one.repository, _license_of(one, snapshot), accept)
    Store(one.repository).verify(snapshot.name, (*one.required, *one.optional))
    return snapshot


def _not_to_be_had(missing: Sequence[Wanted], reason: str | None) -> WeightsMissing:
    places = [f"{one.repository}@{one.revision}" for one in missing]
    what = f"weights {' and '.join(places)} are not in the local cache"
    if reason is None:
        return WeightsMissing(
            f"{what} and --offline is set",
            f"run once online: ffsplat models download {places[0].removesuffix('@main')}"
            f" (cache: {cache_folder()})",
        )
    return WeightsMissing(
        f"{what} and the hub cannot be reached: {reason}",
        "what was downloaded is kept, and the next run goes on from there;"
        " --model ffsplat-tiny needs no network",
    )
