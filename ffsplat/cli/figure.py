"""What a figure sheet of a scene shows: its rows, from the photos to the answers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffsplat.cli.viewpoints import camera_path, input_camera
from ffsplat.render.colors import heat, ramp
from ffsplat.render.painting import Entries, Painter
from ffsplat.render.sheet import PAPER, Bar, Row, refuse_large
from ffsplat.text import counted
from ffsplat.types import NO_ID

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from ffsplat.query import QueryResult
    from ffsplat.types import Cameras

MAX_MEGAPIXELS = 64
MOST_HITS = 20
MOST_NAMES = 24
"""Matches that are counted, and codes in a legend; the others cover the fewest pixels."""

LEVEL_NAMES = {"whole": "whole things", "part": "parts", "subpart": "parts of parts"}

STEPS = 32
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Colours of a bar, and the shares of its length at which it says a value."""


@dataclass(frozen=True, eq=False)
class Figure:
    """The sheet of one scene: pictures of `size` (width, height) in so many columns.

    With cameras it is seen from up to `columns` of them, evenly spaced, and from a loop of new
    places; without, from the loop alone.
    """

    painter: Painter
    size: tuple[int, int]
    columns: int
    texts: tuple[str, ...]
    strategy: str | None = None

    @cached_property
    def chosen(self) -> list[int]:
        """The input cameras that are shown."""
        count = 0 if self.painter.scene.cameras is None else len(self.painter.scene.cameras)
        return sorted({round(i) for i in np.linspace(0, count - 1, min(self.columns, count))})

    @cached_property
    def novel(self) -> "Cameras":
        """A loop of places that no photo was taken from, as many as views are shown."""
        frames = len(self.chosen) or self.columns
        return camera_path(self.painter.scene, None, frames, self.size)

    @cached_property
    def cameras(self) -> "Cameras":
        """Where all rows but those of photos and novel views look from."""
        if not self.chosen:
            return self.novel
        views = [input_camera(self.painter.scene, view, self.size) for view in self.chosen]
        return replace(
            views[0],
            world_from_camera=np.concatenate([view.world_from_camera for view in views]),
            intrinsics=np.concatenate([view.intrinsics for view in views]),
            sizes=np.concatenate([view.sizes for view in views]),
            names=tuple(view.names[0] for view in views),
            thumbnails=None,
        )

    def rows(self, photos: Path | None) -> list[Row]:
        """All rows for which the scene has something to show.

        `photos` is the folder of the photos, by the names of the cameras; without it those that lie
        where their name says. Raises ImageError for a photo that cannot be read, and UsageError for
        a folder without any of them, a word that is not known, and a sheet that is too large.
        """
        count = 2 + bool(self.chosen) + len(self.texts)  # rows that there are at least
        refuse_large(self.size[0] * len(self.cameras), self.size[1] * count)
        answers = [self._found(text) for text in self.texts]  # a wrong word ends it before all work
        rows = list(self._photos(photos))
        captions = () if rows else self.cameras.names if self.chosen else ()
        rows.append(
            Row("Rendered", list(self.painter.plain("rgb", self.cameras)), captions=captions)
        )
        if self.chosen:
            rows.append(Row("Novel views", list(self.painter.plain("rgb", self.novel))))
        rows.append(self._depths())
        scene = self.painter.scene
        if scene.codes is not None and scene.codebook is not None:
            rows.append(self._codes())
        if scene.instances is not None:
            count = len(np.unique(scene.instances[scene.instances != NO_ID]))
            tiles = self.painter.labels("instance", self.cameras)[0]
            rows.append(Row("Objects", tiles, f"{count:,} in all"))
        return [*rows, *map(self._answer, self.texts, answers)]

    def brief(self, photos: Path | None) -> list[Row]:
        """The photos, and from one new place all that there is to see. Raises as `rows` does."""
        refuse_large(self.size[0] * max(len(self.chosen), 3 + len(self.texts)), 2 * self.size[1])
        answers = [self._found(text) for text in self.texts]
        painter, place = self.painter, self.novel[[0]]
        pictures = {
            "colour": next(painter.plain("rgb", place)),
            "depth, near is bright": next(painter.plain("depth", place)),
        }
        entries: Entries = []
        if painter.scene.codes is not None and painter.scene.codebook is not None:
            (codes,), entries = painter.labels("codes", place)
            pictures[f"{self._level} by codebook ID"] = codes
        for text, found in zip(self.texts, answers, strict=True):
            pictures[_quoted(text)] = next(painter.heat(found, place))
        note = "from a place\nwithout a photo" if self.chosen else ""
        tiles, captions = list(pictures.values()), tuple(pictures)
        return [*self._photos(photos), Row("Scene", tiles, note, entries[:MOST_NAMES], captions)]

    def title(self) -> str:
        """How large the scene is."""
        scene = self.painter.scene
        views = "" if scene.cameras is None else f" from {counted(len(scene.cameras), 'photo')}"
        return f"{counted(len(scene), 'Gaussian')}{views}"

    def footer(self) -> str:
        """What made the scene, as far as it says so."""
        said = self.painter.scene.provenance
        parts = [said.get("model", ""), said.get("license", "")]
        parts += [f"{key}: {said[key]}" for key in ("merged", "edited") if key in said]
        return "  \u00b7  ".join(filter(None, parts))

    def _codes(self) -> Row:
        tiles, entries = self.painter.labels("codes", self.cameras)
        more = f"\n{MOST_NAMES} of {len(entries)} kinds" if len(entries) > MOST_NAMES else ""
        return Row("Codes", tiles, f"{self._level}{more}", entries[:MOST_NAMES])

    @property
    def _level(self) -> str:
        return LEVEL_NAMES[self.painter.options.get("level", "whole")]

    def _found(self, text: str) -> "QueryResult":
        from ffsplat.query import query

        return query(self.painter.scene, text, strategy=self.strategy, max_hits=MOST_HITS)

    def _answer(self, text: str, found: "QueryResult") -> Row:
        highest = max(float(found.scores.max(initial=0)), found.threshold)
        count = len(found.hits)
        note = f"{count or 'nothing'} found" if count < MOST_HITS else f"{count} or more found"
        shares = np.linspace(0, 1, STEPS)
        colors = heat(np.full((1, STEPS, 3), 0.5), shares[None])[0]
        ticks = [(share, f"{share * highest:.2f}") for share in TICKS]
        tiles = list(self.painter.heat(found, self.cameras))
        return Row(_quoted(text), tiles, f"{note},\nscore as heat", bar=Bar(colors, ticks))

    def _depths(self) -> Row:
        tiles, ends = self.painter.depths(self.cameras)
        unit = "metres" if self.painter.scene.metric else "units of the scene"
        note = f"z-depth, in\n{unit}"
        if ends is None:
            return Row("Depth", tiles, note)
        near, far = ends
        shares = np.linspace(0, 1, STEPS)
        depths = 1 / (1 / near + np.array(TICKS) * (1 / far - 1 / near))
        ticks = [(share, f"{depth:.3g}") for share, depth in zip(TICKS, depths, strict=True)]
        return Row("Depth", tiles, note, bar=Bar(ramp(1 - shares), ticks))

    def _photos(self, folder: Path | None) -> Iterator[Row]:
        """The row of photos, if there are any."""
        from ffsplat.errors import UsageError

        names = self.cameras.names if self.chosen else ()
        paths = [(folder / Path(name).name) if folder else Path(name) for name in names]
        found = [path if path.is_file() else None for path in paths]
        if folder and not any(found):
            raise UsageError(
                f"{folder} has no photo of the scene's cameras",
                "photos go by the names in --cameras" if names else "give the --cameras too",
            )
        if any(found):
            tiles = [path and photo_tile(path, self.size) for path in found]
            count = len(self.painter.scene.cameras or ())
            note = f"{len(names)} of {count}" if len(names) < count else ""
            yield Row("Photos", tiles, note, captions=names)


def _quoted(text: str) -> str:
    return f"\u201c{text}\u201d"


def photo_tile(path: Path, size: tuple[int, int]) -> "UInt8[np.ndarray, 'h w 3']":
    """A photo, upright and whole, in the middle of a white tile of (width, height)."""
    from PIL import Image

    from ffsplat.decode import read_photo
    from ffsplat.errors import ImageError

    try:
        photo = Image.fromarray(read_photo(path, max(size), 1, MAX_MEGAPIXELS).pixels)
    except ImageError as error:
        raise ImageError(f"cannot read {path}: {error}", error.hint) from error
    scale = min(size[0] / photo.width, size[1] / photo.height)
    fitted = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    tile = Image.new("RGB", size, PAPER)
    corner = (size[0] - fitted[0]) // 2, (size[1] - fitted[1]) // 2
    tile.paste(photo.resize(fitted, Image.Resampling.LANCZOS), corner)
    return np.asarray(tile)
