"""Counters of a server, in the text format of Prometheus."""

from collections import Counter
from collections.abc import Mapping

from ffsplat.stream.engine.metrics import family

PREFIX = "ffsplat_server_"

HELP = {
    "accepted_connections_total": "TCP connections that were accepted.",
    "refused_total": "Requests and sessions that were refused, by HTTP status or close code.",
    "displaced_total": "Connections without a hello that made room for others.",
    "opened_sessions_total": "Sessions that were opened.",
    "frames_total": "Frames that clients sent.",
    "overrun_frames_total": "Frames that came while as many as may be had no verdict.",
    "unseated_frames_total": "Frames of sessions beside the one camera; they count nowhere.",
    "repeated_frames_total": "Frames whose number a session had sent before; they count nowhere.",
    "queries_total": "Text queries, by outcome.",
    "snapshots_total": "Snapshots that were sent.",
    "deltas_sent_total": "Deltas that were sent, over all sessions.",
    "deltas_skipped_total": "Deltas that a slow client got a snapshot for.",
    "sent_bytes_total": "Bytes of messages to clients.",
}
"""What the server counts; a name that is not here is a mistake in the code."""


class Counters:
    """Sums that only grow, each with at most one label; kept and read in one thread."""

    def __init__(self) -> None:
        self.sums: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in HELP}

    def add(self, name: str, count: int = 1, **label: str) -> None:
        """Add to a counter; `label` is the name and value of its one label."""
        ((key, value),) = label.items() or [("", "")]
        self.sums[name][key, value] += count

    def __getitem__(self, name: str) -> int:
        """The sum over all labels."""
        return self.sums[name].total()

    def text(self, gauges: Mapping[str, int | float]) -> str:
        """All of it, with some numbers that go up and down; the help of a gauge is its name."""
        lines = []
        for name, sums in self.sums.items():
            items = sorted(sums.items())
            samples = [({key: value} if key else {}, float(n)) for (key, value), n in items]
            lines.append(family(PREFIX + name, "counter", HELP[name], samples or 0.0))
        for name, value in gauges.items():
            lines.append(
                family(PREFIX + name, "gauge", f"{name.replace('_', ' ')} now.", float(value))
            )
        return "".join(lines)
