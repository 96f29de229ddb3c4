"""Processes that run `ffsplat stream`, one after the other, to be measured and killed."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ffsplat.stream.server.serve import Address

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0
BEGINNING = 600.0
"""Seconds until all is imported, and compiled where it changed: no part of any figure."""

PROGRAM = [sys.executable, "-m", "tests.stream.safety.program"]


@dataclass
class Life:
    """One run of the command; `said` is what it printed so far."""

    nursery: "Nursery"
    pid: int = 0
    said: list[str] = field(default_factory=list)
    code: int | None = None

    @cached_property
    def address(self) -> Address:
        """Where it serves, once it does."""
        found = self.until(r"serving at (ws|wss)://([\d.]+):(\d+)/stream")
        while not self.pid:
            self.read()
        return Address(found[2], int(found[3]), found[1] == "wss")

    def until(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Read until a line matches; what ended before is an error."""
        while self.code is None:
            line = self.read(patience)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"ended with {self.code} before {pattern!r}: {self.said}")

    def read(self, patience: float = PATIENCE) -> str:
        """The next line; some are about the process."""
        line = self.nursery.lines.get(timeout=patience)
        facts = json.loads(line) if line.startswith("{") else {}
        self.pid = facts.get("child", self.pid)
        self.code = facts.get("code", self.code)
        self.said.append(line)
        return line

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code, negative for a signal that killed it."""
        if self.code is None:
            os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once it is there."""
        while self.code is None:
            self.read()
        return self.code


class Nursery:
    """The process of which all lives are children; a context manager."""

    def __init__(self) -> None:
        self.lines: queue.Queue[str] = queue.Queue()
        self._last: Life | None = None

    def __enter__(self) -> "Nursery":
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            PROGRAM, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()
        Life(self).until("ready", BEGINNING)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._last is not None and self._last.code is None and self._last.pid:
            os.kill(self._last.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)

    def live(self, *arguments: object, largest: int | None = None, **limits: object) -> Life:
        """Run `ffsplat stream` with a small map; the one before must have ended.

        Files that it writes may be `largest` bytes long; `limits` are settings of the server.
        """
        words = ["stream", "--max-splats", 60_000, "--serve", "--port", 0, *arguments]
        texts = [str(word) for word in words]
        order = {"arguments": texts, "largest": largest, "limits": limits}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._last = Life(self)
        return self._last

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(json.dumps({"dead": 0, "code": "the parent"}))
