"""What `ffsplat stream` says at the end: frames, the map, and how long the stages took."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffsplat.cli.console import Console, printable
from ffsplat.stream.engine.engine import Engine
from ffsplat.stream.sources import Source

SHOWN = ("p50", "p95", "p99")


def facts_of(
    engine: Engine,
    source: Source | None,
    written: list[Path],
    model: Mapping[str, str],
    seconds: float,
) -> dict[str, Any]:
    """The summary as plain values; reasons and stages that never came up are left out."""
    counters, health = engine.counters(), engine.health()
    dropped = {reason: count for reason, count in counters.dropped.items() if count}
    stages = {
        stage: {name: round(1000 * getattr(one, name), 2) for name in SHOWN}
        for stage, one in engine.latency().items()
        if one.count
    }
    return {
        "source": "clients" if source is None else source.name,
        "files": [str(path) for path in written],
        "frames": {
            "received": counters.received,
            **counters.processed,
            "dropped": dropped,
            "missed": getattr(source, "missed", 0),
        },
        "map": {**dict(_as_counts(health["map"])), "epoch": health["epoch"]},
        "latency_ms": stages,
        "seconds": round(seconds, 3),
        "model": dict(model),
    }  # fmt: skip


def show(console: Console, facts: Mapping[str, Any]) -> None:
    """Print the summary."""
    frames, figures, model = facts["frames"], facts["map"], facts["model"]
    used = frames["keyframe"] + frames["tracked"]
    rate = frames["received"] / max(facts["seconds"], 1e-9)
    rows = {
        "frames": f"{frames['received']} in {facts['seconds']:.1f} s ({rate:.1f} a second), "
        f"{used} used: {frames['keyframe']} keyframes, {frames['tracked']} tracked",
        "dropped": _listed(frames["dropped"]) + _missed(frames["missed"]),
        "map": _listed({name: figures[name] for name in figures if name != "epoch"}),
    }
    for stage, one in facts["latency_ms"].items():
        rows[stage] = ", ".join(f"{name} {value:.1f} ms" for name, value in one.items())
    if model:
        rows["model"] = f"{model['model']} ({model['revision']}), licence {model['license']}"
    rows["written"] = ", ".join(facts["files"]) or "nothing"
    for name, text in rows.items():
        console.result(printable(f"{name:<10} {text}"))


def progress(engine: Engine, seconds: float) -> str:
    """One line on where the stream is."""
    counters, figures = engine.counters(), _as_counts(engine.health()["map"])
    dropped = sum(counters.dropped.values())
    return (
        f"{counters.received} frames, {counters.processed['keyframe']} keyframes, "
        f"{dropped} dropped, {figures.get('splats', 0)} Gaussians, {seconds:.0f} s"
    )


def _as_counts(figures: Any) -> dict[str, int]:
    return {name: int(value) for name, value in figures.items()}


def _listed(counts: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()) or "none"
    )


def _missed(count: int) -> str:
    return f"; {count} came while the one before was waiting" if count else ""
