"""What the colours of a picture mean: names beside swatches, or a bar between two ends, as HTML."""

import html
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from ffsplat.query import QueryResult
from ffsplat.render.colors import heat, ramp, short_label, to_bytes
from ffsplat.types import NO_ID, Scene
from ffsplat.view.paint import Look, depth_range, heaviest, label_color

MOST = 12
"""Names; of more the commonest are told."""

_STEPS = 8
"""Colours of a bar."""

Namer = Callable[[int], str]
Entry = tuple[str, Float[np.ndarray, "3"] | None]
"""A name and the sRGB colour, in [0, 1], that stands for it."""

_STYLE = "font-size:0.8em;line-height:1.5;padding:0 0.75em 0.5em;"
_GRID = "display:grid;grid-template-columns:1fr 1fr;gap:0 0.75em;"
_ENTRY = "white-space:nowrap;overflow:hidden;text-overflow:ellipsis;"
_SWATCH = "display:inline-block;width:0.8em;height:0.8em;margin-right:0.4em;border-radius:2px;"
_BAR = "height:0.6em;border-radius:2px;"
_ENDS = "display:flex;justify-content:space-between;"


def legend(scene: Scene, look: Look, found: QueryResult | None) -> str:
    """The legend of what `paint` makes of the same arguments; "" where colours are just colours."""
    shares = np.linspace(0, 1, _STEPS)
    if look.coloring == "depth":
        return _bar(ramp(shares[::-1]), *_depths(scene, look))
    if look.coloring == "confidence" and len(scene):
        return _bar(ramp(shares), "unsure 0", "1 sure")
    if look.coloring == "score" and found is not None:
        return _bar(*_scores(found))
    if look.coloring == "code":
        return _names(_common(heaviest(scene, look.level)[0], lambda row: _row_name(scene, row)))
    if look.coloring == "instance" and scene.instances is not None:
        return _names(_common(scene.instances, lambda number: _instance_name(scene, number)))
    return ""


def _depths(scene: Scene, look: Look) -> tuple[str, str]:
    near, far = depth_range(scene, look)
    if not np.isfinite(far):
        return "near", "far"
    unit = " m" if scene.metric else ""
    return f"near {near:.2f}{unit}", f"{far:.2f}{unit} far"


def name_of(scene: Scene) -> str:
    """What most of a scene is, such as of a thing that was selected; "" where nobody knows."""
    if scene.codes is None or scene.codebook is None:
        return ""
    rows = heaviest(scene, "whole")[0]
    counts = np.bincount(rows[rows != NO_ID], minlength=1)
    return scene.codebook.names[int(counts.argmax())] if counts.any() else ""


def _scores(found: QueryResult) -> tuple[Float[np.ndarray, "s 3"], str, str]:
    """The colours that matches have, over a grey of one half, from the threshold to the best."""
    high = max(float(found.scores.max(initial=0)), found.threshold, 1e-6)
    values = np.linspace(max(found.threshold, 0), high, _STEPS)
    grey = np.full((_STEPS, 3), 0.5)
    return heat(grey[None], values[None], 0.0, high)[0], f"score {values[0]:.2f}", f"{high:.2f}"


def _common(labels: Int[np.ndarray, " n"], name_of: Namer) -> Iterator[Entry]:
    """Names and colours of labels, the commonest first, and how many were left out."""
    values, counts = np.unique(labels[labels != NO_ID], return_counts=True)
    order = values[np.argsort(-counts, kind="stable")].tolist()
    for label in order[:MOST]:
        yield name_of(label), label_color(label)
    if len(order) > MOST:
        yield f"and {len(order) - MOST} more", None
    if not order:
        yield "nothing has any", None


def _row_name(scene: Scene, row: int) -> str:
    assert scene.codebook is not None  # for it has rows
    return scene.codebook.names[row] or f"row {row}"


def _instance_name(scene: Scene, number: int) -> str:
    """The number of an instance, and what most of it is where that is known."""
    members = np.flatnonzero(scene.instances == number)
    return f"{number} {name_of(scene[members])}".strip()


def _names(entries: Iterator[Entry]) -> str:
    cells = []
    for name, color in entries:
        swatch = "" if color is None else f'<span style="{_SWATCH}background:{_css(color)}"></span>'
        cells.append(f'<div style="{_ENTRY}">{swatch}{html.escape(short_label(name))}</div>')
    return f'<div style="{_STYLE}{_GRID}">{"".join(cells)}</div>'


def _bar(colors: Float[np.ndarray, "s 3"], low: str, high: str) -> str:
    steps = ",".join(_css(color) for color in colors)
    return (
        f'<div style="{_STYLE}"><div style="{_BAR}background:linear-gradient(to right,{steps})">'
        f'</div><div style="{_ENDS}"><span>{low}</span><span>{high}</span></div></div>'
    )


def _css(color: Sequence[float] | Float[np.ndarray, "3"]) -> str:
    return "rgb({},{},{})".format(*to_bytes(np.asarray(color, np.float64)))
