"""What a network made of single photos, kept from one window of a stream to the next."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from ffsplat.nn.trunk import Alone
from ffsplat.types import Views

MOST = 16
"""Views that are remembered: some windows' worth, about a megabyte each with ffsplat-tiny."""


class ViewMemory:
    """The last `most` views, as they are before a network lets them meet others.

    A view is known again by its pixels, by what of it is a photo, and by whether it is the
    reference.
    """

    def __init__(self, most: int = MOST):
        self.most = most
        self._known: OrderedDict[bytes, Alone] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, views: Views, encode: Callable[[int], Alone]) -> Alone:
        """All views side by side; `encode` is asked for the rows that are new.

        It is asked for one at a time: so what is said of a view is the same to the last digit,
        whether it is remembered or not.
        """
        masked = not views.valid.all()
        parts = []
        for row in range(len(views)):
            key = _key(views, row, masked)
            part = self._known.pop(key, None) or encode(row)
            self._known[key] = part
            parts.append(part)
        while len(self._known) > self.most:
            self._known.popitem(last=False)
        return Alone.together(parts)


def _key(views: Views, row: int, masked: bool) -> bytes:
    pixels = views.pixels[row]
    digest = hashlib.blake2b(repr((row == 0, masked, pixels.shape)).encode(), digest_size=16)
    digest.update(pixels.tobytes())
    if masked:
        digest.update(views.valid[row].tobytes())
    return digest.digest()
