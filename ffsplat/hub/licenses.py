"""Licences of weights: what they are, and which non-commercial ones the user has accepted."""

import json
import logging
import os
import re
from datetime import date
from pathlib import Path
from typing import Any

from ffsplat.errors import LicenseNotAccepted, OutputError
from ffsplat.io.atomic import atomic_output
from ffsplat.weights import shown
from ffsplat.zoo import CARD, is_non_commercial, published

UNKNOWN = "unknown"
MAX_CARD = 1 << 20
MAX_RECORD = 1 << 20

_FIELD = re.compile(r"^(license|license_name):[ \t]*[\"']?([^\s\"'#]{1,80})", re.MULTILINE)
_log = logging.getLogger(__name__)


def license_of(repository: str, folder: Path) -> str:
    """The licence of foreign weights: by the table of published models, else by their card."""
    entry = published(repository)
    return entry.license if entry else card_license(folder)


def card_license(folder: Path) -> str:
    """The licence that a model card's metadata name, as the card spells it; or "unknown"."""
    try:
        with (folder / CARD).open(encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_CARD)
    except OSError:
        return UNKNOWN
    head = re.match(r"\s*---\s*\n(.*?)\n---", text, re.DOTALL)
    fields = dict(_FIELD.findall(head[1])) if head else {}
    name = fields.get("license", UNKNOWN)
    return shown(fields.get("license_name", name) if name == "other" else name)


def require_license(repository: str, license: str, accept: bool) -> None:
    """Let weights pass that are free to use, or whose licence the user accepts or has accepted.

    Raises LicenseNotAccepted. An acceptance holds for this licence of this repository, and is kept
    in `record_path`.
    """
    if not is_non_commercial(license) or is_accepted(repository, license):
        return
    if not accept:
        raise LicenseNotAccepted(
            f"the weights of {repository} are for non-commercial use only, licence {license}:"
            f" {license_page(repository)}",
            "if you agree to its terms, say so once with --accept-license (accept_license=True)",
        )
    path = record_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output(path, overwrite=True) as file:
            entry = {"repository": repository, "license": license, "date": str(date.today())}
            file.write((json.dumps([*_accepted(), entry], indent=2) + "\n").encode())
    except (OSError, OutputError) as error:
        _log.warning("your acceptance could not be kept: %s", error)


def require_text_license(space: str, accept: bool) -> None:
    """The same for the weights of a text space; the lexicon and unknown spaces pass."""
    from ffsplat.clip import parse_space
    from ffsplat.clip.published import published as clip_published

    name = parse_space(space)
    if name is not None and name.license.restricted:
        repository = clip_published(name).get("hf_hub", space).rstrip("/")
        require_license(repository, name.license.text, accept)


def is_accepted(repository: str, license: str) -> bool:
    """Whether the user has accepted this licence of this repository."""
    return any(
        (entry.get("repository"), entry.get("license")) == (repository, license)
        for entry in _accepted()
    )


def license_page(repository: str) -> str:
    """Where the terms can be read."""
    return f"https://huggingface.co/{repository}"


def record_path() -> Path:
    """The file that holds what the user has accepted, in the user's folder of settings."""
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    try:
        settings = settings.expanduser()
    except RuntimeError:  # nobody's home: the relative path then does as well as any
        settings = Path(".config")
    return settings / "ffsplat" / "accepted-licenses.json"


def _accepted() -> list[dict[str, Any]]:
    try:
        with record_path().open("rb") as file:
            entries = json.loads(file.read(MAX_RECORD))
    except (OSError, ValueError, RecursionError):
        return []
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
