"""Figure sheets: rows of pictures with a label each, on white; legends and bars below their row."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from ffsplat.errors import UsageError
from ffsplat.render.colors import short_label, to_bytes

MARGIN = 24
GAP = 8
BETWEEN_ROWS = 20
"""Pixels around the sheet, between tiles, and between rows."""

LABEL_WIDTH = 132
"""Pixels of the column with the rows' labels."""

TEXT = 15
SMALL = 12
LINE = 20
"""Sizes of letters and of a line, in pixels."""

ELLIPSIS = "\u2026"
LONGEST = 300
"""Letters of a text that are looked at; a file may hold names without end."""

SWATCH = 12
BAR_HEIGHT, BAR_WIDTH, TICK = 10, 320, 4
"""Pixels of a bar of colours, at most so wide, and of the strokes below it."""

INK, GREY, PAPER = (20, 20, 20), (120, 120, 120), (255, 255, 255)
LARGEST = 1 << 28
"""Pixels of the largest sheet."""


@dataclass(frozen=True, eq=False)
class Bar:
    """What the colours of a scale mean: sRGB in [0, 1] from left to right, and words below.

    `ticks` are shares of the bar's length in [0, 1], rising, and the words that stand there.
    """

    colors: Float[np.ndarray, "s 3"]
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, eq=False)
class Row:
    """Pictures of one kind, all of the sheet's tile size; None leaves a place empty.

    `note` stands in small letters under the label, one line for each line in it; `legend` has names
    and sRGB colours in [0, 1]; a row has that or a `bar`.
    """

    label: str
    tiles: Sequence[UInt8[np.ndarray, "h w 3"] | None]
    note: str = ""
    legend: Sequence[tuple[str, Sequence[float]]] = ()
    captions: Sequence[str] = field(default=())
    """What stands above each tile, if anything does."""
    bar: Bar | None = None


@dataclass(frozen=True)
class Layout:
    """Where things lie, in pixels from the top left: the whole, and each row's tiles and legend."""

    width: int
    height: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    legends: tuple[tuple[tuple[int, int], ...], ...]
    """Per row, the top left corner of each entry that is shown."""


def sheet(
    rows: Sequence[Row], title: str = "", footer: str = ""
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw the rows under each other; every tile keeps its pixels.

    Raises UsageError for no tile, tiles of several sizes, and a sheet beyond LARGEST.
    """
    size = tile_size(rows)
    plan = layout(rows, size, bool(title), bool(footer))
    canvas = Image.new("RGB", (plan.width, plan.height), PAPER)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((MARGIN, MARGIN), short_label(title), INK, _font(TEXT + 3))
    for row, top, corners in zip(rows, plan.tops, plan.legends, strict=True):
        _draw_label(draw, row, top)
        for tile, left in zip(row.tiles, plan.lefts, strict=False):
            if tile is not None:
                canvas.paste(Image.fromarray(tile), (left, top))
        for caption, left in zip(row.captions, plan.lefts, strict=False):
            text = _cut_within(caption, size[0])
            draw.text((left, top - 4), text, GREY, _font(SMALL), anchor="ls")
        _draw_legend(draw, row, corners)
        if row.bar is not None:
            right = plan.width - MARGIN
            _draw_bar(canvas, row.bar, (plan.lefts[0], top + size[1] + GAP), right)
    if footer:
        text = _fitted(footer, plan.width - 2 * MARGIN)
        place = MARGIN, plan.height - MARGIN
        draw.text(place, text, GREY, _font(SMALL), anchor="ls")
    return np.asarray(canvas)


def tile_size(rows: Sequence[Row]) -> tuple[int, int]:
    """Width and height of all tiles; UsageError if there are none, or of several sizes."""
    sizes = {tile.shape[1::-1] for row in rows for tile in row.tiles if tile is not None}
    if len(sizes) != 1:
        raise UsageError(f"a sheet needs tiles of one size, not of {len(sizes)}")
    width, height = sizes.pop()
    return int(width), int(height)


def layout(
    rows: Sequence[Row], size: tuple[int, int], title: bool = False, footer: bool = False
) -> Layout:
    """Where the tiles of (width, height) go: a column for labels, then columns of equal tiles."""
    columns = max((len(row.tiles) for row in rows), default=0)
    start = MARGIN + LABEL_WIDTH
    lefts = tuple(start + column * (size[0] + GAP) for column in range(columns))
    right = start + columns * (size[0] + GAP) - GAP
    y = MARGIN + (2 * LINE if title else 0)
    tops, legends = [], []
    for row in rows:
        y += LINE if any(row.captions) else 0
        tops.append(y)
        words = y + LINE + (LINE - 3) * len(row.note.splitlines())
        corners, end = _flow(row.legend, start, right, y + size[1])
        end += 0 if row.bar is None else GAP + BAR_HEIGHT + TICK + LINE
        legends.append(corners)
        y = max(words, end) + BETWEEN_ROWS
    height = y - BETWEEN_ROWS + MARGIN + (LINE + GAP if footer else 0)
    width = right + MARGIN
    refuse_large(width, height)
    return Layout(width, height, tuple(tops), lefts, tuple(legends))


def refuse_large(width: int, height: int) -> None:
    """Raise UsageError for a sheet of more pixels than LARGEST."""
    if width * height > LARGEST:
        raise UsageError(
            f"a sheet of {width} x {height} pixels is too large",
            "--size takes smaller tiles, --columns fewer",
        )


def _flow(
    entries: Sequence[tuple[str, Sequence[float]]], left: int, right: int, y: int
) -> tuple[tuple[tuple[int, int], ...], int]:
    """Corners of the entries, which flow from left to right in lines, and where they end."""
    if not entries:
        return (), y
    corners, x, top = [], left, y + GAP
    for name, _ in entries:
        width = _entry_width(name)
        if x > left and x + width > right:
            x, top = left, top + LINE
        corners.append((x, top))
        x += width + 2 * GAP
    return tuple(corners), top + LINE


def _entry_width(name: str) -> int:
    return SWATCH + 6 + int(np.ceil(_font(SMALL).getlength(short_label(name))))


def _draw_label(draw: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    label = _fitted(row.label, LABEL_WIDTH - GAP, TEXT)
    draw.text((MARGIN, top), label, INK, _font(TEXT))
    for number, line in enumerate(row.note.splitlines(), 1):
        place = MARGIN, top + 4 + number * (LINE - 3)
        draw.text(place, _fitted(line, LABEL_WIDTH - GAP), GREY, _font(SMALL))


def _draw_legend(draw: ImageDraw.ImageDraw, row: Row, corners: Sequence[tuple[int, int]]) -> None:
    for (name, color), (x, y) in zip(row.legend, corners, strict=True):
        top = y + (LINE - SWATCH) // 2
        fill = tuple(int(value) for value in to_bytes(np.asarray(color, np.float64)))
        draw.rectangle((x, top, x + SWATCH - 1, top + SWATCH - 1), fill=fill)
        place = x + SWATCH + 6, y + LINE // 2
        draw.text(place, short_label(name), INK, _font(SMALL), anchor="lm")


def _draw_bar(canvas: Image.Image, bar: Bar, corner: tuple[int, int], right: int) -> None:
    """The bar from its top left corner, no further than `right`, and its ticks."""
    (left, top), width = corner, min(BAR_WIDTH, right - corner[0])
    shares = np.linspace(0, len(bar.colors) - 1, width)
    steps = np.arange(len(bar.colors))
    line = np.stack([np.interp(shares, steps, channel) for channel in bar.colors.T], axis=-1)
    pixels = to_bytes(line)[None].repeat(BAR_HEIGHT, axis=0)
    canvas.paste(Image.fromarray(pixels), (left, top))
    draw, bottom, free = ImageDraw.Draw(canvas), top + BAR_HEIGHT, left
    for share, words in bar.ticks:
        x = left + round(share * (width - 1))
        length = _font(SMALL).getlength(words)
        start = max(left, min(x - length / 2, left + width - length))
        if start < free:  # no room: the stroke alone would be read as the next one
            continue
        draw.line((x, bottom, x, bottom + TICK - 1), INK)
        draw.text((start, bottom + TICK + 2), words, INK, _font(SMALL))
        free = start + length + GAP


def _fitted(text: str, width: int, size: int = SMALL) -> str:
    """The text on one line, cut where it is wider than so many pixels."""
    plain = _on_one_line(text)
    if _font(size).getlength(plain) <= width:
        return plain
    while plain and _font(size).getlength(plain + ELLIPSIS) > width:
        plain = plain[:-1]
    return plain + ELLIPSIS


def _cut_within(name: str, width: int) -> str:
    """The name of a file, cut in its middle: names of one series differ at their ends."""
    plain, font = _on_one_line(name), _font(SMALL)
    if font.getlength(plain) <= width:
        return plain
    half = len(plain) // 2
    head, tail = plain[:half], plain[half:]
    while head and font.getlength(head + ELLIPSIS + tail) > width:
        head, tail = head[:-1], tail[1:]
    return head + ELLIPSIS + tail


def _on_one_line(text: str) -> str:
    shown = text if len(text) <= LONGEST else text[: LONGEST // 2] + text[-LONGEST // 2 :]
    return "".join(c if c.isprintable() else " " for c in shown)


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)
