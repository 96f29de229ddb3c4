"""Rows of measured values beside what they have to beat, as Markdown and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One metric of a network, beside trivial answers that it should beat and other methods.

    `key` names it in JSON; `statistic` says what over what ("median over pairs"), `protocol` how
    it is measured.
    """

    key: str
    title: str
    unit: str
    network: float
    trivial: Mapping[str, float] = field(default_factory=dict)
    beside: Mapping[str, float] = field(default_factory=dict)
    best: Literal["low", "high", "one"] = "low"
    statistic: str = "mean"
    protocol: str = ""

    @property
    def beats(self) -> bool:
        """Whether the network is better than every trivial answer."""
        return all(self._loss(self.network) < self._loss(value) for value in self.trivial.values())

    def _loss(self, value: float) -> float:
        return {"low": value, "high": -value, "one": max(value, 1 / max(value, 1e-9))}[self.best]


def markdown(rows: Sequence[Row], name: str) -> str:
    """A table with one line a row."""
    lines = [
        f"| metric | {name} | trivial baselines | beats them | beside |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        unit = f", {row.unit}" if row.unit else ""
        cells = (
            f"{row.title}, {row.statistic}{unit}",
            _number(row.network),
            _listing(row.trivial),
            ("yes" if row.beats else "NO") if row.trivial else "",
            _listing(row.beside),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def protocol(rows: Sequence[Row]) -> str:
    """A list of how rows were measured, those together that share a protocol."""
    titles: dict[str, list[str]] = {}
    for row in rows:
        titles.setdefault(row.protocol, []).append(row.title)
    return "\n".join(
        f"- {', '.join(dict.fromkeys(measured))}: {how}" for how, measured in titles.items()
    )


def as_json(rows: Sequence[Row]) -> dict:
    """The rows as plain values: the network's by key, all others' by name and key, and in full."""
    others: dict[str, dict[str, float]] = {}
    for row in rows:
        for name, value in (*row.trivial.items(), *row.beside.items()):
            others.setdefault(name, {})[row.key] = value
    return {
        **{row.key: row.network for row in rows},
        "baselines": others,
        "statistics": {row.key: row.statistic for row in rows},
        "rows": [asdict(row) | {"beats": row.beats} for row in rows],
    }


def _listing(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"
