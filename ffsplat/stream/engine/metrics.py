"""Figures for Prometheus: its text format, version 0.0.4.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ffsplat.stream.engine.counters import Counters
from ffsplat.stream.engine.latency import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]

_COUNTS = {
    "clock_jumps": "Times that the sender's clock was set forward or back.",
    "clock_gaps": "Times that the sender sent nothing for more than a second of its clock.",
    "checkpoint_failures": "Checkpoints that could not be written.",
    "deltas": "Changes of the map given to subscribers.",
    "subscriber_failures": "Subscribers that raised, and were removed.",
}
_GAUGES = {
    "epoch": "Corrections of the map's poses so far.",
    "alive": "1 while frames are worked on, 0 when the worker is gone or stuck.",
    "ready": "1 once the network has run, until the stream ends.",
    "degraded": "1 for a while after the network failed, or hung.",
    "checkpoint_age_seconds": "Since the newest checkpoint, or the start if there is none.",
}


_QUANTILES = {"0.5": "p50", "0.95": "p95", "0.99": "p99", "0.999": "p999"}


@dataclass(frozen=True, eq=False)
class Readings:
    """What an engine's figures are at one moment.

    `counts` and `gauges` have the names that this file explains; `map` has those of the mapper.
    """

    counters: Counters
    stages: Mapping[str, Histogram]
    counts: Mapping[str, int]
    gauges: Mapping[str, float]
    map: Mapping[str, int | float]

    def text(self) -> str:
        """All figures for Prometheus."""
        counters = self.counters
        return "".join(
            [
                family("ffsplat_frames_received_total", "counter", "Frames.", counters.received),
                family(
                    "ffsplat_frames_processed_total",
                    "counter",
                    "Frames that were used, by verdict.",
                    [({"verdict": name}, count) for name, count in counters.processed.items()],
                ),
                family(
                    "ffsplat_frames_dropped_total",
                    "counter",
                    "Frames that were left out, by reason.",
                    [({"reason": name}, count) for name, count in counters.dropped.items()],
                ),
                family("ffsplat_frames_queued", "gauge", "Frames on their way.", counters.queued),
                *(
                    family(f"ffsplat_{name}_total", "counter", _COUNTS[name], value)
                    for name, value in self.counts.items()
                ),
                *(
                    family(f"ffsplat_{name}", "gauge", _GAUGES[name], value)
                    for name, value in self.gauges.items()
                ),
                *(
                    family(f"ffsplat_map_{name}", "gauge", f"The map's {name}.", value)
                    for name, value in self.map.items()
                ),
                histogram_family(
                    "ffsplat_stage_seconds", "Seconds of a frame's stages.", "stage", self.stages
                ),
                family(
                    "ffsplat_stage_quantile_seconds",
                    "gauge",
                    "Percentiles of the same, since the start.",
                    self._percentiles(),
                ),
            ]
        )

    def _percentiles(self) -> Iterator[tuple[Labels, float]]:
        for stage, histogram in self.stages.items():
            found = histogram.percentiles()
            for quantile, name in _QUANTILES.items():
                yield {"stage": stage, "quantile": quantile}, getattr(found, name)


def family(
    name: str,
    kind: Literal["counter", "gauge"],
    text: str,
    samples: int | float | Iterable[tuple[Labels, int | float]],
) -> str:
    """The lines of one counter or gauge; `samples` is its value, or (labels, value) pairs.

    The name of a counter ends in _total; `text` says in a line what is counted, and in which unit.
    """
    pairs = [({}, samples)] if isinstance(samples, int | float) else samples
    lines = [f"{name}{_braces(labels)} {_number(value)}\n" for labels, value in pairs]
    return _head(name, kind, text) + "".join(lines)


def histogram_family(name: str, text: str, label: str, histograms: Mapping[str, Histogram]) -> str:
    """The lines of one histogram of seconds for each value of a label."""
    lines = [_head(name, "histogram", text)]
    for value, histogram in histograms.items():
        for edge, count in histogram.cumulative():
            lines.append(f"{name}_bucket{_braces({label: value, 'le': f'{edge:.6g}'})} {count}\n")
        braces, count = _braces({label: value}), histogram.count
        lines.append(f"{name}_bucket{_braces({label: value, 'le': '+Inf'})} {count}\n")
        lines.append(f"{name}_sum{braces} {_number(histogram.sum)}\n{name}_count{braces} {count}\n")
    return "".join(lines)


def _head(name: str, kind: str, text: str) -> str:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {escaped}\n# TYPE {name} {kind}\n"


def _braces(labels: Labels) -> str:
    """Labels in their braces, "" for none."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: int | float) -> str:
    """A value as Go's ParseFloat takes it; nan and inf are among them."""
    return str(value) if isinstance(value, int) else repr(float(value))
