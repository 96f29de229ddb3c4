"""A map that grows and is asked, in Chromium: no picture is without it."""

import numpy as np
from small_room import small_room

from ffsplat.types import Scene
from ffsplat.view import Viewer, viewing
from tests.stream.server.browser import Page
from tests.view.pages import KEEP, WATCH, open_viewer, says, until

PART = 100
PICTURES = 10


def put(viewer: Viewer, room: Scene, parts: int) -> None:
    """Let the map be so many parts of the room."""
    rows = np.arange(PART * parts)
    viewer.follow(
        room[rows], rows // PART, lambda chosen: np.pad(chosen, (0, len(rows) - len(chosen)))
    )


def drawn(page: Page, viewer: Viewer, word: str) -> None:
    """Wait until the page has drawn all that it was sent; the word is sent last."""
    until(lambda: viewer.screen.is_settled, "the screen does not settle")
    viewer.panel.say(word)
    says(page, word)
    seen = page.get("window.shares.length")
    until(lambda: page.get("window.shares.length") > seen + PICTURES, "nothing is drawn")


def test_no_picture_is_without_the_map_while_it_grows_and_is_asked(chromium):
    room = small_room(4 * PART)
    with viewing(room[np.arange(PART)], port=0, can_edit=False) as (viewer, url):
        until(lambda: viewer.screen.is_settled, "nothing is sent")
        put(viewer, room, 2)
        with chromium.tab() as page:
            page.call("Page.addScriptToEvaluateOnNewDocument", source=KEEP)
            open_viewer(page, url)
            page.get(WATCH)
            until(lambda: page.get("window.shares.at(-1)") > 0.01, "the map is not seen")
            drawn(page, viewer, "all is here")
            page.get("void (window.shares = [])")
            page.type("form input", "table")
            says(page, "1 match for 'table'")
            put(viewer, room, 3)
            drawn(page, viewer, "one part more")
            put(viewer, room, 4)
            drawn(page, viewer, "and another")
            shares = page.get("window.shares")
    assert min(shares) > 0.3 * max(shares)
