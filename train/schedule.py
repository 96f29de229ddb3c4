"""How long a run lasts and how its learning rate rises and falls."""

import math
import time
from dataclasses import dataclass
from typing import Literal

from ffsplat.errors import UsageError


@dataclass(frozen=True)
class Schedule:
    """The learning rate of a run, as a share of its highest."""

    warmup: int = 150
    """Steps from zero to the highest rate."""
    decay: float = 0.2
    """Last share of the run, over which the rate falls to zero; 0 never lets it fall."""
    shape: Literal["linear", "cosine"] = "linear"
    """How it falls. A run without its fall can be resumed and lengthened at any time (Haegele et
    al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", 2024)."""
    minutes: float | None = None
    """The run ends by then, over all its pieces, if its steps do not end it before."""
    clock: Literal["wall", "cpu"] = "wall"
    """What minutes are: time on the wall, or time that this process spent computing, which is what
    runs of equal cost share on a machine that does other work."""

    def __post_init__(self):
        if not 0 <= self.decay <= 1 or self.warmup < 0:
            raise UsageError("schedule: decay is a share from 0 to 1, warmup a number of steps")
        if self.minutes is not None and self.minutes <= 0:
            raise UsageError("schedule: minutes must be positive")

    def done(self, step: int, steps: int, seconds: float) -> float:
        """Share of the run that lies behind; 1 at its end."""
        by_steps = step / steps if steps > 0 else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def rate(self, step: int, done: float) -> float:
        """The share of the highest rate at a step, when this share of the run lies behind."""
        left = min(1.0, (1 - done) / self.decay) if self.decay else 1.0
        if self.shape == "cosine":
            left = 0.5 - 0.5 * math.cos(math.pi * left)
        return min(left, (step + 1) / self.warmup if self.warmup else 1.0)


class Clock:
    """Seconds that a run has lasted, over all its pieces."""

    def __init__(self, kind: Literal["wall", "cpu"]):
        self._now = time.monotonic if kind == "wall" else time.process_time
        self._before = 0.0
        self._began = self._now()

    def start(self, before: float) -> None:
        """Begin a piece of a run that has lasted `before` seconds."""
        self._before, self._began = before, self._now()

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        return self._before + self._now() - self._began
