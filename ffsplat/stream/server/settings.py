"""What a server may cost and whom it lets in: every bound stands here."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from ffsplat.errors import UsageError

MIB = 1 << 20


@dataclass(frozen=True)
class ServerSettings:
    """Options of `serve`; what `max_` names is a bound that always holds.

    Where and to whom: `port` 0 takes a free one. `token_file` holds the secrets (`Tokens.read`),
    `tls_cert` and `tls_key` are PEM files. Pages of `origins` may connect besides the server's own.

    Times are in seconds: `handshake` until a client has said hello, `ping` between two pings,
    `idle` until a client that reads nothing or answers no ping is closed, `drain` for a shutdown.

    Of `max_connections` those that have not said hello hold a place only until somebody else wants
    it (see `Door.make_room`); `max_sessions` have.

    A request has a head of `max_head_bytes`; a client that has not said hello yet sends messages of
    `max_text_bytes`, later `max_frame_bytes`. At most `max_in_flight` frames of a session wait (see
    `Intake`); it sends `max_fps` frames and asks `max_queries` times a second. `max_replies` is how
    many answers wait for a client that does not read before nothing is read from it.

    Deltas of the last `ring_seconds` are kept for clients that come back, in `max_ring_bytes`; one
    that is further behind than `max_behind_bytes` gets a snapshot instead.

    A map that is made of another source `takes_frames` from no client.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    origins: tuple[str, ...] = ()
    handshake: float = 10.0
    ping: float = 20.0
    idle: float = 30.0
    drain: float = 10.0
    max_connections: int = 256
    max_sessions: int = 16
    max_head_bytes: int = 16 << 10
    max_text_bytes: int = 64 << 10
    max_frame_bytes: int = 8 * MIB
    max_fps: float = 60.0
    max_in_flight: int = 4
    max_queries: float = 10.0
    max_replies: int = 64
    max_behind_bytes: int = 16 * MIB
    ring_seconds: float = 60.0
    max_ring_bytes: int = 64 * MIB
    takes_frames: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"{self.port} is no port", "--port takes 0 to 65535; 0: a free one")
        for name, value in vars(self).items():
            if (
                name not in ("port", "takes_frames")
                and isinstance(value, int | float)
                and not value > 0
            ):
                raise UsageError(f"{name} of a server is {value}, not positive")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("TLS needs a certificate and its key", "give --tls-cert and --tls-key")
        if self.token_file is None and not self.is_local:
            raise UsageError(
                f"refusing to listen on {self.host} without a token",
                "--token-file FILE, or --host 127.0.0.1",
            )

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can connect."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and nothing else."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
