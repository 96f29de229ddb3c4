"""A real browser for tests: Chromium without a window, driven by its DevTools protocol.

One browser serves all tests of a run (the fixture `chromium`); each takes a tab that shares nothing
with others. Source: https://chromedevtools.github.io/devtools-protocol/ (domains Browser, Target,
Page, Runtime, Input, Network, Emulation).
"""

import base64
import io
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 30.0
"""Seconds: software rendering on a busy machine."""

FLAGS = (
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0", "--no-first-run", "--disable-background-networking",
    "--disable-extensions", "--disable-dev-shm-usage", "--no-proxy-server",
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
)  # fmt: skip


class Wire:
    """A connection to the browser, or to one of its tabs."""

    def __init__(self, socket: ClientConnection):
        self._socket = socket
        self._ids = count(1)

    def call(self, method: str, **parameters) -> dict:
        """The result of a command of the DevTools protocol."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, message: dict) -> None:
        """What was said besides."""


class Page(Wire):
    """A tab. `problems` collects what it reports as errors, refused content included."""

    def __init__(self, socket: ClientConnection, context: str):
        super().__init__(socket)
        self.problems: list[str] = []
        self._context = context
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def download_to(self, folder: Path) -> None:
        """Keep what the page gives to download."""
        self.call(
            "Browser.setDownloadBehavior",
            behavior="allow", downloadPath=str(folder), browserContextId=self._context,
        )  # fmt: skip

    def _note(self, message: dict) -> None:
        """Keep what a page tells of errors, but not that a server that is away is away."""
        facts = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(facts["exceptionDetails"])[:1000])
        elif message.get("method") == "Log.entryAdded" and facts["entry"]["level"] == "error":
            text = facts["entry"]["text"]
            if "ERR_CONNECTION" not in text and "ERR_INTERNET_DISCONNECTED" not in text:
                self.problems.append(text)
        elif message.get("method") == "Runtime.consoleAPICalled" and facts["type"] == "error":
            self.problems.append(json.dumps(facts["args"])[:1000])

    def open(self, url: str, width: int = 640, height: int = 400) -> None:
        """Show a page in a window of this size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && window.ffsplat !== undefined")

    def get(self, expression: str):
        """The value of an expression of JavaScript, awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, (result["exceptionDetails"], self.problems)
        return result["result"].get("value")

    def wait(self, condition: str, patience: float = PATIENCE) -> None:
        """Return when an expression is true."""
        deadline = time.monotonic() + patience
        while not self.get(f"Boolean({condition})"):
            assert time.monotonic() < deadline, (condition, self.get(STATE), self.problems)
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press a button."""
        self.get(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector: str, text: str) -> None:
        """Type into a field, and press Enter, by the keyboard."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.get(f"{field}.focus(); {field}.select()")
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                windowsVirtualKeyCode=13,
            )  # fmt: skip

    def drag(self, path: list[tuple[int, int]]) -> None:
        """Press the mouse at the first point, and let go at the last."""
        for i, (x, y) in enumerate(path):
            kind = "mousePressed" if i == 0 else "mouseMoved"
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1)
        x, y = path[-1]
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left")

    def settle(self) -> None:
        """Return when nothing moves, not even a colour, and all that is there has been drawn."""
        self.wait("window.ffsplat.view.isSettled && !document.getAnimations().length")

    def picture(self, path: Path | None = None) -> np.ndarray:
        """A screenshot, rows by columns by red, green and blue; kept in a file if that is given."""
        data = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        if path is not None:
            path.write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


STATE = "document.body.dataset.state + ' ' + document.getElementById('message').textContent"


class Chromium:
    """A browser that starts with its first tab, and again should it have died."""

    def __init__(self, profiles: Path):
        self._profiles, self._starts = profiles, count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._port, self._path = "", ""

    @contextmanager
    def tab(self) -> Iterator[Page]:
        """A tab with storage and downloads of its own; skips where there is no Chromium."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        with self._connected(self._path) as socket:
            browser = Wire(socket)
            context = browser.call("Target.createBrowserContext")["browserContextId"]
            tab = browser.call(
                "Target.createTarget", url="about:blank", browserContextId=context
            )["targetId"]  # fmt: skip
            try:
                with self._connected(f"/devtools/page/{tab}") as own:
                    yield Page(own, context)
            finally:
                browser.call("Target.disposeBrowserContext", browserContextId=context)

    def stop(self) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        program = next(filter(None, map(which, NAMES)), None)
        if program is None:
            pytest.skip("no Chromium on this machine: apt-get install chromium")
        profile = self._profiles / str(next(self._starts))
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        file, deadline = profile / "DevToolsActivePort", time.monotonic() + PATIENCE
        while not (file.exists() and len(file.read_text().split()) == 2):
            assert self._process.poll() is None, "the browser did not start"
            assert time.monotonic() < deadline, "the browser opens no port"
            time.sleep(0.05)
        self._port, self._path = file.read_text().split()

    def _connected(self, path: str) -> ClientConnection:
        address = f"ws://127.0.0.1:{self._port}{path}"
        return connect(address, max_size=None, compression=None, proxy=None, ping_interval=None)
