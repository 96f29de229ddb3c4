"""The furniture table of templates.toml, compiled to linear maps from random numbers to parts."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float64, Int64

from data.rooms.labels import PART_INDEX, WHOLE_INDEX
from data.rooms.materials import FAMILIES

BOX, BALL, FRUSTUM, ROOM = range(4)
"""Primitive shapes; ROOM is a box seen from inside."""

SHAPES = {
    "box": (BOX, 0, 0),
    "ball": (BALL, 0, 0),
    "tube": (FRUSTUM, 0, 0),
    "cup": (FRUSTUM, 0, 1),
    "pipe": (FRUSTUM, 1, 1),
}
"""Shape of a part line: primitive, open at the bottom, open at the top."""

COLUMNS = ("x0", "x1", "y0", "y1", "z0", "z1", "rx", "ry", "rz", "bottom", "top")
"""Values of a part: extents in the object's box, degrees about its centre, radii of its ends."""

AXES = {"z": 0, "x": 1, "y": 2}
VARIABLES = 24
"""Random numbers of one object."""

_PART_NAMES = sorted([*PART_INDEX, "support"], key=len, reverse=True)


@dataclass(frozen=True, eq=False)
class Template:
    """One way to build a class: part values are `base + slope @ uniform random numbers`.

    `pivot` is the height about which a part turns, NaN for its own centre. `kind` holds shape,
    open bottom, open top, axis, part label and index into `materials` (family, variant).
    """

    label: int
    place: str
    height: tuple[float, float]
    size: Float64[np.ndarray, "3 2"]
    round_depth: bool
    round_height: bool
    base: Float64[np.ndarray, "parts 11"]
    slope: Float64[np.ndarray, "parts 11 24"]
    pivot: Float64[np.ndarray, " parts"]
    kind: Int64[np.ndarray, "parts 6"]
    materials: tuple[tuple[int, int], ...]
    support_base: Float64[np.ndarray, "supports 6"]
    support_slope: Float64[np.ndarray, "supports 6 24"]
    support_tags: tuple[str, ...]


class _Compiler:
    """Turns the text of one [[object]] into arrays."""

    def __init__(self, variables: dict[str, str]):
        self.count = 0
        self.variables = {name: self.value(text) for name, text in variables.items()}

    def value(self, text: str) -> tuple[float, np.ndarray]:
        """Constant and slope of "1.5", "lo~hi", "name", "name+c", "name-c"."""
        slope = np.zeros(VARIABLES)
        if "~" in text:
            low, high = map(float, text.split("~"))
            slope[self.count] = high - low
            self.count += 1
            return low, slope
        named = re.fullmatch(r"([a-z])([+-][\d.]+)?", text)
        if named:
            constant, slope = self.variables[named[1]]
            return constant + float(named[2] or 0), slope
        return float(text), slope

    def part(self, line: str) -> tuple[str, list[str], np.ndarray, np.ndarray, dict[str, str]]:
        """Name, shape and material words, base (11,), slope (11, 24), flags of a line."""
        name = next(name for name in _PART_NAMES if line.startswith(name + " "))
        words = line[len(name) + 1 :].split()
        pairs = (word.partition("=") for word in words[8:])
        flags = {key: value for key, _, value in pairs}
        texts = words[2:8] + [
            flags.get(key, "1" if key in ("bottom", "top") else "0") for key in COLUMNS[6:]
        ]
        values = [self.value(text) for text in texts]
        base, slope = np.array([v[0] for v in values]), np.stack([v[1] for v in values])
        return name, words[:2], base, slope, flags


def _mirror(base: np.ndarray, slope: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The copy on the other side of x (axis 0) or y (axis 1)."""
    order = np.arange(11)
    order[2 * axis], order[2 * axis + 1] = 2 * axis + 1, 2 * axis
    sign = np.ones(11)
    sign[[2 * axis, 2 * axis + 1]] = -1
    sign[[6, 7, 8]] = -1
    sign[6 + axis] = 1
    return base[order] * sign, slope[order] * sign[:, None]


def _copies(base: np.ndarray, slope: np.ndarray, flags: dict[str, str]):
    """All copies that the flags mx, my, mxy and n=count:axis:pitch ask for."""
    copies = [(base, slope)]
    if "n" in flags:
        count, axis, pitch = flags["n"].split(":")
        step = np.zeros(11)
        step[2 * "xyz".index(axis) : 2 * "xyz".index(axis) + 2] = float(pitch)
        copies = [(base + i * step, slope) for i in range(int(count))]
    for axis, names in enumerate((("mx", "mxy"), ("my", "mxy"))):
        if any(name in flags for name in names):
            copies += [_mirror(b, s, axis) for b, s in copies]
    return copies


def _compile(entry: dict) -> Template:
    compiler = _Compiler(entry.get("vars", {}))
    rows, supports, materials = [], [], {}
    for line in entry["parts"]:
        name, (shape, material), base, slope, flags = compiler.part(line)
        for b, s in _copies(base, slope, flags):
            if name == "support":
                tags = [flag for flag in flags if flag.isalpha() and flag != "n"]
                supports.append((b[:6], s[:6], "".join(tags)))
                continue
            slot = materials.setdefault(material, len(materials))
            kind = (*SHAPES[shape], AXES[flags.get("axis", "z")], PART_INDEX[name], slot)
            rows.append((b, s, float(flags.get("about", "nan")), kind))
    words = [re.fullmatch(r"([a-z]+)(\d?)", word) for word in materials]
    size = [re.split("~", s) if "~" in s else ("1", "1") for s in entry["size"]]
    return Template(
        label=WHOLE_INDEX[entry["class"]],
        place=entry["place"],
        height=tuple(entry.get("height", (0.0, 0.0))),
        size=np.array(size, dtype=float),
        round_depth="~" not in entry["size"][1],
        round_height="~" not in entry["size"][2],
        base=np.stack([row[0] for row in rows]),
        slope=np.stack([row[1] for row in rows]),
        pivot=np.array([row[2] for row in rows]),
        kind=np.array([row[3] for row in rows]),
        materials=tuple((FAMILIES[m[1]], int(m[2] or 1)) for m in words if m),
        support_base=np.array([row[0] for row in supports]).reshape(-1, 6),
        support_slope=np.array([row[1] for row in supports]).reshape(-1, 6, VARIABLES),
        support_tags=tuple(row[2] for row in supports),
    )


@cache
def templates() -> tuple[Template, ...]:
    """The whole table, in the order of the file."""
    text = files("data.rooms").joinpath("templates.toml").read_text(encoding="utf-8")
    return tuple(_compile(entry) for entry in tomllib.loads(text)["object"])
