"""Refusals: why a message breaks the protocol, and the code a connection is closed with."""

from ffsplat.errors import StreamError

NORMAL = 1000
MALFORMED = 4400
UNAUTHORIZED = 4401
TIMEOUT = 4408
VERSION = 4409
TOO_LARGE = 4413
UNANSWERABLE = 4422
RATE = 4429
DRAINING = 4503

RETRYABLE = (TIMEOUT, RATE, DRAINING)
"""Codes after which the same client may connect again and do the same."""

MAX_REASON = 123
"""Bytes of a reason in a close frame (RFC 6455, section 5.5: 125 with the code)."""


class ProtocolError(StreamError):
    """A message that is refused: `code` is that of the close frame or of the `error` message."""

    def __init__(self, code: int, reason: str, hint: str | None = None):
        super().__init__(reason, hint)
        self.code = code

    @property
    def reason(self) -> str:
        """What is wrong, in ASCII and short enough for a close frame."""
        return ascii(str(self))[1:-1][:MAX_REASON]
