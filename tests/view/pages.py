"""The viewer's page in Chromium: what a person does with it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.stream.server.browser import PATIENCE, Page

CANVAS = "document.querySelectorAll('canvas')[1]"


def open_viewer(page: Page, url: str, width: int = 700, height: int = 500) -> None:
    """Show a viewer's page; returns when its controls are there."""
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=height, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip
    page.call("Page.navigate", url=url)
    wait(page, f"{CANVAS} && document.querySelector('form input')")


def press(page: Page, label: str) -> None:
    """Click the button, or the control, that bears a label, once it can be clicked."""
    find = f"({_FIND})({json.dumps(label)})"
    wait(page, f"{find} && !{find}.closest('button')?.disabled")
    page.get(f"{find}.click()")


def turn_to(page: Page, tab: str, label: str) -> None:
    """Open a tab with the mouse; returns when a label in it is there."""
    find = f"({_FIND})({json.dumps(tab)})"
    wait(page, find)

    def click() -> bool:
        click_at(page, *page.get(f"(e => [e.x + e.width / 2, e.y + e.height / 2])"
                                 f"({find}.getBoundingClientRect())"))  # fmt: skip
        return page.get(f"Boolean(({_FIND})({json.dumps(label)}))")

    until(click, f"the tab {tab} does not open")


def click_at(page: Page, x: float, y: float) -> None:
    """Click a place of the window."""
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        page.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y,
            button="none" if kind == "mouseMoved" else "left", clickCount=1,
        )  # fmt: skip


def says(page: Page, text: str) -> None:
    """Wait until the page says this."""
    wait(page, f"document.body.innerText.includes({json.dumps(text)})")


def wait(page: Page, condition: str) -> None:
    """Wait until an expression of JavaScript is true."""
    until(lambda: page.get(f"Boolean({condition})"), condition)


def until(check: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def shows(page: Page, check: Callable[[np.ndarray], bool], file: Path) -> np.ndarray:
    """Wait until the picture passes a check; the last picture is kept in the file."""
    seen: list[np.ndarray] = []

    def look() -> bool:
        seen[:] = [page.picture(file)]
        return check(seen[0])

    until(look, f"the picture never was as it should be: see {file}")
    return seen[0]


_FIND = r"""label => [...document.querySelectorAll('button, [role=tab], label, span, p, div')].find(
  e => e.children.length === 0 && e.textContent.trim().replace(/\s+/g, ' ') === label
    && e.getClientRects().length)"""

KEEP = """(() => {
  const get = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, options) {
    return get.call(this, kind, {...options, preserveDrawingBuffer: true});
  };
})()"""
"""Makes what a canvas shows readable at any time, in a page that is loaded after it."""

WATCH = f"""(() => {{
  const size = 64;
  const small = new OffscreenCanvas(size, size).getContext('2d', {{willReadFrequently: true}});
  window.shares = [];
  const look = () => {{
    small.clearRect(0, 0, size, size);
    small.drawImage({CANVAS}, 0, 0, size, size);
    const pixels = small.getImageData(0, 0, size, size).data;
    let bright = 0;
    for (let i = 0; i < pixels.length; i += 4) {{
      bright += Math.max(pixels[i], pixels[i + 1], pixels[i + 2]) > 90;
    }}
    window.shares.push(bright / size / size);
    requestAnimationFrame(look);
  }};
  look();
}})()"""
"""Notes in `shares` of every picture how much of it is bright, which the bare background is not."""
