"""From a layout to flat arrays of primitives, materials and lights, batched over rooms."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from data.rooms.labels import PART_INDEX, WHOLE_INDEX
from data.rooms.layout import Layout, furnish
from data.rooms.materials import FAMILIES, draw_material
from data.rooms.templates import BOX, ROOM

LIGHTS = 3
"""Point lights of a room."""

_CYCLES = np.stack([np.eye(3), np.eye(3)[:, [1, 2, 0]], np.eye(3)[:, [2, 0, 1]]])
"""Rotation from a frustum's own frame (axis z) to the object's, for axis z, x, y."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """b rooms as flat tensors; slot 0 of the p primitives is the room itself.

    `rotation` is world_from_local, `half` the half sizes in metres: a primitive lies in the unit
    box of its local frame. `shape` is a code of `templates`, -1 for an empty slot. `ends` holds the
    relative radii (bottom, top) of a frustum, `open` whether these ends are open. `material` is the
    row of `materials`; rows 0 to 5 are the room's faces, inward normals +x -x +y -y +z -z.
    """

    rotation: Float[Tensor, "b p 3 3"]
    centre: Float[Tensor, "b p 3"]
    half: Float[Tensor, "b p 3"]
    shape: Int64[Tensor, "b p"]
    ends: Float[Tensor, "b p 2"]
    open: Float[Tensor, "b p 2"]
    whole: Int64[Tensor, "b p"]
    part: Int64[Tensor, "b p"]
    instance: Int64[Tensor, "b p"]
    material: Int64[Tensor, "b p"]
    materials: Float[Tensor, "b m 15"]
    light_position: Float[Tensor, "b 3 3"]
    light_colour: Float[Tensor, "b 3 3"]
    ambient: Float[Tensor, "b 3"]

    def to(self, device: torch.device | str) -> "Scenes":
        """The same rooms on another device."""
        return Scenes(**{name: value.to(device) for name, value in vars(self).items()})


def _rotations(degrees: np.ndarray) -> np.ndarray:
    """Rz Ry Rx for rows of angles about x, y, z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)).T, np.sin(np.radians(degrees)).T
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _object_parts(layout: Layout) -> dict[str, np.ndarray]:
    """All parts of all objects of a room, as arrays in world coordinates."""
    kinds = [item.kind for item in layout.items]
    counts = [len(kind.base) for kind in kinds]
    values = np.concatenate(
        [k.base + k.slope @ i.uniform for k, i in zip(kinds, layout.items, strict=True)]
    )
    owner = np.repeat(np.arange(len(counts)), counts)
    size = np.stack([item.size for item in layout.items])[owner] * [0.5, 0.5, 1]
    position = np.stack([item.position for item in layout.items])[owner]
    yaw = np.degrees([item.yaw for item in layout.items])[owner]
    shape, open0, open1, axis, part, slot = np.concatenate([k.kind for k in kinds]).T
    # Later parts of an object are a little larger, so that faces in one plane do not flicker.
    order = np.concatenate([np.arange(count) for count in counts])[:, None]
    centre = (values[:, 0:6:2] + values[:, 1:6:2]) / 2 * size
    half = np.abs(values[:, 1:6:2] - values[:, 0:6:2]) / 2 * size + 3e-4 * order
    pivot = centre.copy()
    about = np.concatenate([k.pivot for k in kinds])
    turned = ~np.isnan(about)
    pivot[turned] = np.stack([0 * about, centre[:, 1], about * size[:, 2]], -1)[turned]
    inner = _rotations(values[:, 6:9])
    centre = pivot + np.einsum("nij,nj->ni", inner, centre - pivot)
    outer = _rotations(np.stack([0 * yaw, 0 * yaw, yaw], -1))
    return {
        "rotation": outer @ inner @ _CYCLES[axis],
        "centre": position + np.einsum("nij,nj->ni", outer, centre),
        "half": np.maximum(np.einsum("nji,nj->ni", _CYCLES[axis], half), 5e-4),
        "shape": shape,
        "ends": np.clip(values[:, 9:11], 0, 1),
        "open": np.stack([open0, open1], -1).astype(float),
        "whole": np.array([k.label for k in kinds])[owner],
        "part": part,
        "instance": owner + 1,
        "slot": slot,
    }


def _structure(layout: Layout, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The room, skirting boards and perhaps a pillar or chimney breast."""
    w, d, h = layout.room
    centre, half = [[0, 0, h / 2]], [[w / 2, d / 2, h / 2]]
    shape, part, material = [ROOM], ["surface"], [0]
    if rng.random() < 0.75:
        tall, thick = rng.uniform(0.03, 0.06), 0.008
        for sign in (-1, 1):
            centre += [[sign * w / 2, 0, tall], [0, sign * d / 2, tall]]
            half += [[thick, d / 2, tall], [w / 2, thick, tall]]
        shape, part, material = shape + [BOX] * 4, part + ["skirting board"] * 4, material + [6] * 4
    n = len(shape)
    return {
        "rotation": np.broadcast_to(np.eye(3), (n, 3, 3)),
        "centre": np.array(centre, dtype=float),
        "half": np.array(half, dtype=float),
        "shape": np.array(shape),
        "ends": np.ones((n, 2)),
        "open": np.zeros((n, 2)),
        "whole": np.full(n, WHOLE_INDEX["wall"]),
        "part": np.array([PART_INDEX[name] for name in part]),
        "instance": np.zeros(n, dtype=int),
        "material": np.array(material),
    }


def _structure_materials(rng: np.random.Generator, tiles: dict[str, range]) -> list[np.ndarray]:
    """Six faces of the room (walls mostly alike) and the skirting board."""
    wall = draw_material(rng, FAMILIES["wall"], tiles)
    rows = [wall.copy() for _ in range(4)]
    if rng.random() < 0.3:
        rows[int(rng.integers(4))] = draw_material(rng, FAMILIES["wall"], tiles)
    names = ("floor", "ceiling", "white" if rng.random() < 0.6 else "wood")
    return rows + [draw_material(rng, FAMILIES[name], tiles) for name in names]


def _object_materials(layout: Layout, rng: np.random.Generator, tiles: dict[str, range]):
    """Materials of every object, and the first row of each object in that list.

    A part of the objects shares the room's style, so that furniture comes in sets.
    """
    style: dict[int, np.ndarray] = {}
    rows, first = [], []
    for item in layout.items:
        first.append(len(rows))
        drawn: dict[int, np.ndarray] = {}
        shared = rng.random() < 0.35
        for family, variant in item.kind.materials:
            if family in drawn and (variant == 1 or rng.random() < 0.4):
                row = drawn[family]
            elif shared and variant == 1:
                row = style.setdefault(family, draw_material(rng, family, tiles))
            else:
                row = draw_material(rng, family, tiles)
            drawn.setdefault(family, row)
            rows.append(row)
    return rows, first


def _lights(layout: Layout, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Lights at lamps and windows, else anywhere under the ceiling; some rooms are dim."""
    w, d, h = layout.room
    spots = []
    for item in layout.items:
        name = item.kind.label
        if name == WHOLE_INDEX["ceiling lamp"]:
            spots.append(item.position - [0, 0, 0.06])
        if name == WHOLE_INDEX["window"]:
            inward = np.array([-np.sin(item.yaw), np.cos(item.yaw), 0]) * 0.35
            spots.append(item.position + inward + [0, 0, 0.7 * item.size[2]])
        if name == WHOLE_INDEX["floor lamp"]:
            spots.append(item.position + np.array([0, 0, item.size[2] + 0.05]))
    spots = [spots[i] for i in rng.permutation(len(spots))][:LIGHTS]
    while len(spots) < 2 or (len(spots) < LIGHTS and rng.random() < 0.5):
        spots.append(np.array([*(rng.uniform(-0.4, 0.4, 2) * [w, d]), h * rng.uniform(0.75, 0.95)]))
    power = np.zeros((LIGHTS, 1))
    power[: len(spots), 0] = rng.uniform(0.3, 1.0, len(spots)) * 0.35 * (w * d) ** 0.5
    spots += [np.array([0, 0, h / 2])] * (LIGHTS - len(spots))
    warm = rng.uniform(-1, 1, (LIGHTS, 1)) * [0.2, 0.02, -0.25] + [1.0, 0.95, 0.9]
    tint = 1 + rng.uniform(-0.08, 0.08, 3)
    return {
        "light_position": np.stack(spots),
        "light_colour": power * np.clip(warm, 0.3, 1.4),
        "ambient": rng.uniform(0.12, 0.4) * tint,
    }


def _assemble(seed: int, tiles: dict[str, range]) -> tuple[Layout, dict[str, np.ndarray]]:
    rng = np.random.default_rng([seed, 0])
    layout = furnish(rng)
    structure = _structure(layout, rng)
    rows = _structure_materials(rng, tiles)
    parts = _object_parts(layout)
    object_rows, first = _object_materials(layout, rng, tiles)
    slot = parts.pop("slot")
    parts["material"] = len(rows) + np.array(first)[parts["instance"] - 1] + slot
    arrays = {name: np.concatenate([structure[name], parts[name]]) for name in structure}
    arrays["materials"] = np.stack(rows + object_rows)
    return layout, arrays | _lights(layout, rng)


def build_scenes(
    seeds: list[int], tiles: dict[str, range] | None = None
) -> tuple[Scenes, list[Layout]]:
    """Rooms of these seeds on the CPU; `tiles` are photo tiles by category, if there are any."""
    built = [_assemble(seed, tiles or {}) for seed in seeds]
    fill = {"shape": -1, "half": 1, "rotation": 1}
    tensors = {}
    for name in built[0][1]:
        arrays = [arrays[name] for _, arrays in built]
        length = max(len(array) for array in arrays)
        stacked = np.full((len(arrays), length, *arrays[0].shape[1:]), fill.get(name, 0), float)
        for row, array in zip(stacked, arrays, strict=True):
            row[: len(array)] = array
        whole = name in ("shape", "whole", "part", "instance", "material")
        tensors[name] = torch.from_numpy(stacked).to(torch.int64 if whole else torch.float32)
    return Scenes(**tensors), [layout for layout, _ in built]
