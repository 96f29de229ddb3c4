"""What stands where: a room as a list of objects, drawn by seed."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from data.rooms.labels import WHOLE_INDEX
from data.rooms.templates import VARIABLES, Template, templates

MAX_OBJECTS = 90
"""Objects in a room; instance numbers are one byte."""

THEMES: dict[str, str] = {
    "living": "sofa,armchair,coffee table,cabinet,bookshelf,floor lamp,plant,coffee table,table",
    "bedroom": "bed,nightstand,wardrobe,dresser,armchair,floor lamp,desk,desk,nightstand",
    "kitchen": "oven,refrigerator,sink,cabinet,table,washing machine,stool,trash can,table",
    "bathroom": "bathtub,toilet,sink,washing machine,basket,cabinet,stool,trash can",
    "office": "desk,desk,bookshelf,cabinet,trash can,plant,table,suitcase",
    "storage": "ladder,box,box,fire extinguisher,traffic cone,bench,bookshelf,suitcase,table,box",
}
"""Typical furniture of a room; any other class may join."""


@dataclass(frozen=True, eq=False)
class Item:
    """One placed object: its template, size, foot (x, y, z in metres), yaw and random numbers."""

    template: int
    size: Float64[np.ndarray, " 3"]
    position: Float64[np.ndarray, " 3"]
    yaw: float
    uniform: Float64[np.ndarray, " 24"]

    @property
    def kind(self) -> Template:
        """The furniture row that this object was built from."""
        return templates()[self.template]


@dataclass(frozen=True, eq=False)
class Layout:
    """A furnished room; `room` is width (x), depth (y), height (z), (0, 0, 0) mid-floor."""

    room: Float64[np.ndarray, " 3"]
    items: list[Item] = field(default_factory=list)


def _by_place(*places: str) -> dict[int, list[int]]:
    """Template indices by class label, for these places."""
    table: dict[int, list[int]] = {}
    for index, template in enumerate(templates()):
        if template.place in places:
            table.setdefault(template.label, []).append(index)
    return table


_STANDING = _by_place("wall", "floor", "beside")
_SMALL = _by_place("top")
_PLACES = {
    place: [index for row in _by_place(place).values() for index in row]
    for place in {template.place for template in templates()}
}
_DESK = {WHOLE_INDEX[name]: _by_place("desk")[WHOLE_INDEX[name]] for name in ("monitor", "laptop")}


def _turn(x: float, y: float, yaw: float) -> np.ndarray:
    return np.array([x * np.cos(yaw) - y * np.sin(yaw), x * np.sin(yaw) + y * np.cos(yaw)])


class _Builder:
    """Draws and places objects; `floor` and `walls` hold the rectangles that are taken."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.room = np.array([rng.uniform(2.6, 6.5), rng.uniform(2.6, 6.5), rng.uniform(2.3, 3.1)])
        self.items: list[Item] = []
        self.floor: list[tuple[float, float, float, float]] = []
        self.walls: list[tuple[int, float, float, float, float]] = []

    def draw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Size and part numbers of a new object of a template."""
        template, u = templates()[index], self.rng.random(VARIABLES + 3)
        size = template.size[:, 0] + (template.size[:, 1] - template.size[:, 0]) * u[:3]
        if template.round_depth:
            size[1] = size[0]
        if template.round_height:
            size[2] = size[0]
        return size, u[3:]

    def choose(self, indices: list[int]) -> int:
        """One of the templates, with equal chance."""
        return indices[int(self.rng.integers(len(indices)))]

    def add(self, index: int, size: np.ndarray, at: np.ndarray, yaw: float, u: np.ndarray) -> None:
        """Place an object for good."""
        if len(self.items) < MAX_OBJECTS:
            self.items.append(Item(index, size, at, yaw, u))

    def footprint(self, at: np.ndarray, size: np.ndarray, yaw: float, margin: float):
        """The axis-aligned rectangle around a turned object."""
        c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
        x, y = (size[0] * c + size[1] * s) / 2 + margin, (size[0] * s + size[1] * c) / 2 + margin
        return at[0] - x, at[1] - y, at[0] + x, at[1] + y

    def floor_free(self, box: tuple[float, float, float, float]) -> bool:
        """Is the rectangle inside the room and free?"""
        x, y = self.room[0] / 2 + 0.01, self.room[1] / 2 + 0.01
        if box[0] < -x or box[1] < -y or box[2] > x or box[3] > y:
            return False
        return not any(
            box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in self.floor
        )

    def wall_free(self, wall: int, s: tuple[float, float], z: tuple[float, float]) -> bool:
        """Is the rectangle on the wall inside it and free?"""
        half = self.room[wall % 2] / 2
        if s[0] < -half or s[1] > half or z[1] > self.room[2]:
            return False
        return not any(
            w == wall and s[0] < b and a < s[1] and z[0] < d and c < z[1]
            for w, a, b, c, d in self.walls
        )

    def on_wall(self, index: int, standing: bool, room_in_front: float = 0.0) -> Item | None:
        """Try to put an object with its back against a wall, on the floor or hanging."""
        rng, template = self.rng, templates()[index]
        size, u = self.draw(index)
        low = rng.uniform(*template.height)
        for _ in range(8):
            wall, half = int(rng.integers(4)), size[0] / 2 + 0.02
            s = rng.uniform(-1, 1) * max(self.room[wall % 2] / 2 - half, 0)
            if not self.wall_free(wall, (s - half, s + half), (low, low + size[2])):
                continue
            yaw = wall * np.pi / 2
            gap = size[1] / 2 + (rng.uniform(0, 0.04) if standing else 0.0)
            inward = self.room[(wall + 1) % 2] / 2 - gap
            at = np.array([*_turn(s, -inward, yaw), low])
            deep = size + np.array([0.0, room_in_front, 0.0])
            middle = at[:2] + _turn(0.0, room_in_front / 2, yaw)
            box = self.footprint(middle, deep, yaw, 0.0)
            if standing and not self.floor_free(box):
                continue
            if standing:
                self.floor.append(box)
            self.walls.append((wall, s - half, s + half, low, low + size[2]))
            self.add(index, size, at, yaw, u)
            return self.items[-1]
        return None

    def on_floor(self, index: int, near: Item | None = None) -> None:
        """Try to put an object anywhere on the floor, or at a side of a table, facing it."""
        rng = self.rng
        size, u = self.draw(index)
        for _ in range(6):
            yaw = rng.uniform(0, 2 * np.pi)
            if near is None:
                at = np.array([*(rng.uniform(-0.5, 0.5, 2) * self.room[:2]), 0.0])
            else:
                side = 0 if near.kind.place == "wall" else int(rng.integers(4))
                reach = near.size[(side + 1) % 2] / 2 + size[1] / 2 - rng.uniform(-0.1, 0.12)
                slide = rng.uniform(-0.3, 0.3) * near.size[side % 2]
                turn = near.yaw + side * np.pi / 2
                at = np.array([*(near.position[:2] + _turn(slide, reach, turn)), 0.0])
                yaw = turn + np.pi + rng.normal(0, 0.2)
            box = self.footprint(at, size, yaw, -0.16 if near else 0.03)
            if self.floor_free(box):
                self.floor.append(box)
                self.add(index, size, at, yaw, u)
                return

    def openings(self) -> None:
        """Doors, windows with curtains, radiators."""
        rng = self.rng
        for _ in range(int(rng.choice([0, 1, 2], p=[0.1, 0.7, 0.2]))):
            self.on_wall(self.choose(_PLACES["door"]), True, 0.7)
        for _ in range(int(rng.choice([0, 1, 2], p=[0.2, 0.5, 0.3]))):
            window = self.on_wall(self.choose(_PLACES["window"]), False)
            if window and rng.random() < 0.55:
                self.curtains(window)
        if rng.random() < 0.5:
            self.on_wall(self.choose(_PLACES["radiator"]), True)

    def curtains(self, window: Item) -> None:
        """One on each side of a window."""
        index = self.choose(_PLACES["curtain"])
        size, u = self.draw(index)
        top = min(window.position[2] + window.size[2] + 0.12, self.room[2] - 0.03)
        size[2] = min(size[2], top - 0.02)
        shift = window.size[0] / 2 + size[0] * 0.35
        for sign in (-1, 1):
            xy = window.position[:2] + _turn(sign * shift, 0.06, window.yaw)
            if np.all(np.abs(xy) < self.room[:2] / 2 - 0.03):
                self.add(index, size, np.array([*xy, top - size[2]]), window.yaw, u)

    def furniture(self) -> None:
        """Standing furniture of a theme, mixed with any other class; chairs at tables."""
        rng = self.rng
        names = THEMES[str(rng.choice(list(THEMES)))].split(",")
        labels = [WHOLE_INDEX[name] for name in rng.permutation(names)[: rng.integers(3, 8)]]
        labels += list(rng.choice(list(_STANDING), int(rng.integers(3, 9))))
        count = len(self.items)
        for label in labels:
            index = self.choose(_STANDING[int(label)])
            if templates()[index].place == "wall":
                self.on_wall(index, True, rng.uniform(0, 0.3))
            else:
                self.on_floor(index)
        tables = [WHOLE_INDEX["table"], WHOLE_INDEX["desk"]]
        for item in [item for item in self.items[count:] if item.kind.label in tables]:
            for _ in range(int(rng.integers(0, 4))):
                self.on_floor(self.choose(_STANDING[WHOLE_INDEX["chair"]]), item)

    def hangings(self) -> None:
        """Pictures, clocks, mirrors, televisions on walls; lamps on the ceiling; rugs."""
        rng = self.rng
        for _ in range(int(rng.integers(1, 6))):
            self.on_wall(self.choose(_PLACES["hang"]), False)
        for _ in range(int(rng.choice([0, 1, 2], p=[0.15, 0.6, 0.25]))):
            index = self.choose(_PLACES["ceiling"])
            size, u = self.draw(index)
            size[2] = min(size[2], self.room[2] - 1.85)
            xy = rng.uniform(-0.3, 0.3, 2) * self.room[:2]
            self.add(index, size, np.array([*xy, self.room[2] - size[2]]), 0.0, u)
        if rng.random() < 0.6:
            index = self.choose(_PLACES["carpet"])
            size, u = self.draw(index)
            size[:2] = np.minimum(size[:2], self.room[:2] - 0.3)
            xy = rng.uniform(-0.5, 0.5, 2) * (self.room[:2] - size[:2] * 1.1)
            self.add(index, size, np.array([*xy, 0.0]), 0.0, u)

    def fill(self, item: Item) -> None:
        """Put small things on every support of an object."""
        template = item.kind
        values = template.support_base + template.support_slope @ item.uniform
        for extent, tag in zip(values, template.support_tags, strict=True):
            scale = np.repeat(item.size * [0.5, 0.5, 1], 2)
            x0, x1, y0, y1, z0, z1 = extent * scale
            top = min(z1, self.room[2] - item.position[2])
            self.fill_support(item, tag, np.array([x0, x1, y0, y1]), z0, top - z0)

    def fill_support(self, item: Item, tag: str, area: np.ndarray, z: float, clear: float) -> None:
        """Books in a row, or a few things side by side, on one support."""
        rng = self.rng
        if tag == "books" and rng.random() < 0.75:
            self.books(item, area, z, clear)
            return
        wanted: list[int] = []
        if tag == "desk" and rng.random() < 0.85:
            wanted.append(self.choose(_DESK[int(rng.choice(list(_DESK)))]))
            if rng.random() < 0.7:
                wanted.append(self.choose(_by_place("desk")[WHOLE_INDEX["keyboard"]]))
        if tag == "media" and rng.random() < 0.7:
            wanted.append(self.choose(_PLACES["media"]))
        if tag == "bedside" and rng.random() < 0.6:
            wanted.append(self.choose(_SMALL[WHOLE_INDEX["table lamp"]]))
        size = (area[1] - area[0]) * (area[3] - area[2])
        if tag == "cushions":
            wanted += [self.choose(_PLACES["cushions"]) for _ in range(int(rng.integers(0, 4)))]
        else:
            labels = rng.choice(list(_SMALL), min(int(rng.poisson(2 + 6 * size)), 10))
            wanted += [self.choose(_SMALL[int(label)]) for label in labels]
        taken: list[tuple[float, float, float, float]] = []
        for index in wanted:
            self.stand(item, index, area, z, clear, taken)

    def stand(self, item: Item, index: int, area, z: float, clear: float, taken: list) -> None:
        """Try to put one small thing on a free spot of a support."""
        rng = self.rng
        size, u = self.draw(index)
        place = templates()[index].place
        if size[2] > clear:
            return
        turn = rng.normal(0, 0.15) if place in ("desk", "media", "cushions") else rng.uniform(0, 7)
        if templates()[index].label in (WHOLE_INDEX["microwave"], WHOLE_INDEX["clock"]):
            turn = rng.normal(0, 0.2)
        for _ in range(6):
            box = self.footprint(np.zeros(2), size, turn, 0.005)
            low, high = area[[0, 2]] - box[:2], area[[1, 3]] - box[2:]
            if np.any(low > high):
                return
            at = rng.uniform(low, high)
            box = (box[0] + at[0], box[1] + at[1], box[2] + at[0], box[3] + at[1])
            if any(
                box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken
            ):
                continue
            taken.append(box)
            xy = item.position[:2] + _turn(at[0], at[1], item.yaw)
            self.add(index, size, np.array([*xy, item.position[2] + z]), item.yaw + turn, u)
            return

    def books(self, item: Item, area: np.ndarray, z: float, clear: float) -> None:
        """A row of standing books, pushed to the back."""
        rng, index = self.rng, _PLACES["books"][0]
        x, end = area[0], area[0] + (area[1] - area[0]) * rng.uniform(0.3, 1.0)
        for _ in range(14):
            size, u = self.draw(index)
            size[2] = min(size[2], clear - 0.01)
            size[0] *= 1.3
            if x + size[0] > end:
                return
            y = area[2] + 0.05 + size[1] / 2 * 0.9 + rng.uniform(0, 0.02)
            xy = item.position[:2] + _turn(x + size[0] / 2, min(y, area[3]), item.yaw)
            at = np.array([*xy, item.position[2] + z])
            self.add(index, size, at, item.yaw, u)
            x += size[0] + rng.uniform(0.001, 0.006)

    def clutter(self) -> None:
        """Things left on the floor."""
        rng = self.rng
        small = [WHOLE_INDEX[name] for name in ("ball", "book", "box", "cup", "bottle", "plant")]
        for label in rng.choice(small, int(rng.integers(0, 4))):
            self.on_floor(self.choose(_SMALL[int(label)]))


def furnish(rng: np.random.Generator) -> Layout:
    """Draw a furnished room."""
    builder = _Builder(rng)
    builder.openings()
    builder.furniture()
    builder.hangings()
    for item in list(builder.items):
        builder.fill(item)
    builder.clutter()
    return Layout(builder.room, builder.items)
