"""How long the stages of frames take: percentiles of any number of frames in constant memory."""

import bisect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

STAGES = ("decode", "queue", "network", "place", "fuse", "publish", "total")
"""Parts of a frame's way; "total" is from its arrival to its verdict."""

SHORTEST, DECADES, STEPS = 1e-5, 7, 40
"""Buckets start at 10 microseconds and end at 100 s, 40 to each factor of ten."""

EDGES = tuple(SHORTEST * 10 ** (step / STEPS) for step in range(DECADES * STEPS + 1))
"""Upper ends of the buckets, in seconds; one more bucket holds what is longer."""

ERROR = 10 ** (0.5 / STEPS) - 1
"""A percentile of durations within the edges is off by at most this share of itself (2.9 %)."""


@dataclass(frozen=True)
class Percentiles:
    """Seconds that so many in a hundred frames do not exceed; zeros where nothing was measured."""

    count: int
    p50: float
    p95: float
    p99: float
    p999: float


class Histogram:
    """Counts of durations in buckets whose widths grow with them.

    Not safe to use from several threads at once. Source of the idea: G. Tene's HdrHistogram, with
    edges at powers of 10 ** (1 / 40) instead of 2.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES) + 1)
        self.sum = 0.0
        self.longest = 0.0

    def record(self, seconds: int | float) -> None:
        """Count one duration; what is no finite number, or negative, counts as zero."""
        if not (math.isfinite(seconds) and seconds > 0):
            seconds = 0.0
        self.counts[bisect.bisect_left(EDGES, seconds)] += 1
        self.sum += seconds
        self.longest = max(self.longest, seconds)

    def copy(self) -> "Histogram":
        """One that stays as it is while this one goes on."""
        twin = Histogram()
        twin.counts, twin.sum, twin.longest = list(self.counts), self.sum, self.longest
        return twin

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """Seconds that `share` (0 to 1) of the durations do not exceed, by nearest rank.

        Within ERROR of the exact one; below the first edge that edge, 0 if nothing was recorded.
        """
        rank = max(1, math.ceil(share * self.count - 1e-9))
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if seen >= rank:
                return min(self._middle(bucket), self.longest)
        return 0.0

    def _middle(self, bucket: int) -> float:
        """The duration that is off by the same factor from both ends of a bucket."""
        if bucket == 0:
            return EDGES[0]
        if bucket == len(EDGES):
            return self.longest
        return math.sqrt(EDGES[bucket - 1] * EDGES[bucket])

    def percentiles(self) -> Percentiles:
        """The usual ones."""
        return Percentiles(self.count, *map(self.quantile, (0.5, 0.95, 0.99, 0.999)))

    def cumulative(self, every: int = STEPS // 4) -> Iterable[tuple[float, int]]:
        """Each `every`-th edge in seconds, and how many durations do not exceed it."""
        seen = 0
        for bucket, edge in enumerate(EDGES):
            seen += self.counts[bucket]
            if bucket % every == 0:
                yield edge, seen


class Latencies:
    """A histogram for each stage; stages that are not in STAGES are left out."""

    def __init__(self) -> None:
        self.stages = {stage: Histogram() for stage in STAGES}

    def record(self, seconds: Mapping[str, float]) -> None:
        """Count the stages of one frame."""
        for stage, duration in seconds.items():
            if stage in self.stages:
                self.stages[stage].record(duration)

    def copy(self) -> "Latencies":
        """One that stays as it is while this one goes on."""
        twin = Latencies()
        twin.stages = {stage: histogram.copy() for stage, histogram in self.stages.items()}
        return twin

    def percentiles(self) -> dict[str, Percentiles]:
        """By stage."""
        return {stage: histogram.percentiles() for stage, histogram in self.stages.items()}
