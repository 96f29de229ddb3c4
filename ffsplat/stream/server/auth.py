"""Who may come in: tokens from a file, pages of the same host."""

import hashlib
import hmac
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ffsplat.errors import UsageError
from ffsplat.stream.server.settings import is_loopback

if TYPE_CHECKING:
    from websockets.http11 import Request

log = logging.getLogger(__name__)

MAX_FILE = 64 << 10
MIN_LENGTH = 16
"""Characters of a token: at the least 64 bits, were they drawn from sixteen letters."""

FORM = f"it has one secret a line, {MIN_LENGTH} characters or more"


@dataclass(frozen=True)
class Tokens:
    """Digests of the secrets that let a client in, and when each ends (seconds since 1970)."""

    digests: tuple[bytes, ...]
    expiries: tuple[float, ...]

    @classmethod
    def read(cls, path: Path) -> "Tokens":
        """The tokens of a file: one a line, optionally followed by the time at which it ends.

        A time is ISO 8601 ("2027-01-31" or "2027-01-31T12:00:00+00:00"), UTC unless it says
        otherwise. Empty lines and those that start with # are skipped.
        Raises UsageError for a file that cannot be read, that is larger than 64 KiB or that holds
        no token, a token of fewer than 16 characters, or a time that is none.
        """
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE + 1)
            text = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise UsageError(f"cannot read the token file {path}: {reason}", FORM) from error
        if len(content) > MAX_FILE:
            raise UsageError(f"the token file {path} is larger than {MAX_FILE >> 10} KiB", FORM)
        digests, expiries = [], []
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                token, _, end = line.strip().partition(" ")
                if len(token) < MIN_LENGTH:
                    raise UsageError(
                        f"line {number} of {path} is shorter than {MIN_LENGTH} characters",
                        "python -c 'import secrets; print(secrets.token_urlsafe())' makes a token",
                    )
                digests.append(_digest(token))
                expiries.append(_seconds(end.strip(), f"line {number} of {path}"))
        if not digests:
            raise UsageError(f"the token file {path} holds no token", FORM)
        return cls(tuple(digests), tuple(expiries))

    def accept(self, token: str | None, now: float) -> float | None:
        """When the right to be here ends (seconds since 1970), None if there is none now.

        Digests are compared, each in constant time and all of them, so that the time an answer
        takes says nothing about how much of a guess was right.
        """
        shown = _digest(token or "")
        matches = [hmac.compare_digest(shown, digest) for digest in self.digests]
        ends = [end for match, end in zip(matches, self.expiries, strict=True) if match]
        return max((end for end in ends if now < end), default=None)


def warn_of_readers(path: Path) -> None:
    """Warn if more than its owner and group may read, or change, a file of tokens."""
    if os.name == "posix" and path.stat().st_mode & 0o007:
        log.warning("everybody on this machine can read %s: chmod 600 it", path)


def header_of(request: "Request", name: str) -> str | None:
    """The value of a header; one that stands twice becomes invalid, none of them is chosen."""
    values = request.headers.get_all(name)
    return ", ".join(values) if values else None


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer` header, None without one. Source: RFC 6750, 2.1."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def is_origin_allowed(origin: str | None, host: str | None, allowed: Sequence[str]) -> bool:
    """Whether a page of this origin may connect: a program (no origin), our own page, or a guest.

    Our own page is one whose host and port are those that the request was sent to. Browsers cannot
    forge either header. Source: RFC 6455, section 10.2.
    """
    if origin is None or origin in allowed:
        return True
    scheme, _, place = origin.partition("://")
    return scheme in ("http", "https") and host is not None and place.lower() == host.lower()


def is_host_local(host: str | None) -> bool:
    """Whether the Host header of a request means this machine, as it must where no token is asked.

    A page can make a name of its own point to 127.0.0.1 and then looks like our own page; the name
    gives it away. Source: Jackson et al., "Protecting Browsers from DNS Rebinding Attacks", 2007.
    """
    try:
        name = urlsplit(f"//{host or ''}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def _seconds(text: str, place: str) -> float:
    """An ISO time as seconds since 1970; infinity where there is none."""
    if not text:
        return float("inf")
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{place} ends with {text!r}, which is no time", "write it as 2027-01-31T12:00:00"
        ) from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
