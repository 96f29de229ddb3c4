"""How long the stages of one frame take."""

import time


class Clock:
    """Wall time of the stages of one frame."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def stop(self, stage: str) -> None:
        """Count the time since the last stop, or the start, for a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now
