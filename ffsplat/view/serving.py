"""A viewer from start to end: a server, a browser that is opened, and a stream that is followed."""

import threading
import webbrowser
from collections.abc import Callable
from typing import Any

from ffsplat.types import Scene
from ffsplat.view.server import LOCALHOST, PORT
from ffsplat.view.viewer import viewing


def serve(
    scene: Scene,
    *,
    host: str = LOCALHOST,
    port: int = PORT,
    browser: bool = True,
    tell: Callable[[str], None] = print,
    until: threading.Event | None = None,
    **options: Any,
) -> None:
    """Show a scene in a browser until `until` is set, or for ever.

    `tell` is given the URL, and a warning if no browser could be opened. The other options are
    those of `viewing`. Raises UsageError for an address that cannot be had.
    """
    with viewing(scene, host=host, port=port, **options) as (_, url):
        announce(url, browser, tell)
        (until or threading.Event()).wait()


def announce(url: str, browser: bool, tell: Callable[[str], None]) -> None:
    """Say where the page is, and open it."""
    tell(f"viewing at {url}")
    if browser and not webbrowser.open(url):
        tell(f"no browser could be started: open {url}")
