"""Figure sheets: where things lie by hand, tiles that keep their pixels, and text that fits."""

import numpy as np
import pytest

from ffsplat.errors import UsageError
from ffsplat.render.sheet import Bar, Row, layout, sheet, tile_size

RED = (1.0, 0.0, 0.0)


def tile(value: int, width: int = 40, height: int = 30) -> np.ndarray:
    """A tile of noise, so that a shift of one pixel is seen."""
    random = np.random.default_rng(value)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_rows_and_columns_lie_where_the_sums_say():
    rows = [Row("one", [tile(0), tile(1)]), Row("two", [tile(2)])]
    plan = layout(rows, (40, 30))
    assert plan.lefts == (24 + 132, 24 + 132 + 40 + 8)
    assert plan.tops == (24, 24 + 30 + 20)
    assert (plan.width, plan.height) == (156 + 2 * 40 + 8 + 24, 74 + 30 + 24)
    assert plan.legends == ((), ())


def test_title_captions_legend_and_footer_take_lines_of_their_own():
    rows = [
        Row("one", [tile(0)], captions=["a"]),
        Row("two", [tile(1)], legend=[("x", RED)]),
        Row("three", [tile(2)]),
    ]
    plan = layout(rows, (40, 30), title=True, footer=True)
    first = 24 + 2 * 20 + 20
    second = first + 30 + 20
    third = second + 30 + 8 + 20 + 20
    assert plan.tops == (first, second, third)
    assert plan.height == third + 30 + 24 + 20 + 8
    assert plan.legends == ((), ((156, second + 30 + 8),), ())


def test_a_legend_flows_and_stays_within_the_sheet():
    names = [(f"name {number}", RED) for number in range(30)]
    plan = layout([Row("codes", [tile(0, 200)], legend=names)], (200, 30))
    corners = np.array(plan.legends[0])
    assert len(corners) == 30
    assert (corners[:, 0] >= 156).all()
    assert (corners[:, 0] < 156 + 200).all()
    lines = np.unique(corners[:, 1])
    np.testing.assert_array_equal(np.diff(lines), 20)
    assert len(lines) > 5
    for line in lines:
        assert (np.diff(corners[corners[:, 1] == line, 0]) > 12 + 6).all()
    assert plan.height == lines[-1] + 20 + 24


def test_a_bar_runs_from_colour_to_colour_and_its_words_have_room():
    colors = np.array([[1.0, 0, 0], [0, 0, 1.0]])
    bar = Bar(colors, [(0.0, "one"), (0.5, "two"), (0.51, "lost"), (1.0, "three")])
    row = Row("depth", [tile(0, 200), tile(1, 200)], bar=bar)
    plan = layout([row, Row("next", [tile(2, 200)])], (200, 30))
    top = plan.tops[0] + 30 + 8
    assert plan.tops[1] == top + 10 + 4 + 20 + 20
    picture = sheet([row, Row("next", [tile(2, 200)])]).astype(int)
    line = picture[top + 5, 156 : 156 + 320]
    assert line[[0, -1]].tolist() == [[255, 0, 0], [0, 0, 255]]
    np.testing.assert_allclose(line[:, 2], np.linspace(0, 255, 320), atol=1)
    assert (picture[top + 5, 156 + 320 :] == 255).all()
    strokes = np.flatnonzero((picture[top + 11] == 20).all(-1)) - 156
    assert strokes.tolist() == [0, 160, 319]  # one stroke a word, none for the lost one
    words = picture[top + 14 : plan.tops[1] - 20]
    assert (words[:, : 156 - 1] == 255).all()
    assert (words[:, 156 + 321 :] == 255).all()


def test_words_that_are_higher_than_a_tile_make_their_row_higher():
    plan = layout([Row("a", [tile(0)], "one\ntwo\nthree"), Row("b", [tile(1)])], (40, 30))
    assert plan.tops[1] - plan.tops[0] == 20 + 3 * 17 + 20


def test_every_tile_keeps_its_pixels():
    rows = [
        Row("photos", [tile(0), None, tile(1)], captions=["a", "b", "c"]),
        Row("codes", [tile(2), tile(3), tile(4)], "some\nwords", [("chair", RED)] * 9),
    ]
    drawn = sheet(rows, "A title", "A footer")
    plan = layout(rows, (40, 30), True, True)
    assert drawn.shape == (plan.height, plan.width, 3)
    for row, top in zip(rows, plan.tops, strict=True):
        for picture, left in zip(row.tiles, plan.lefts, strict=True):
            found = drawn[top : top + 30, left : left + 40]
            expected = np.full((30, 40, 3), 255) if picture is None else picture
            np.testing.assert_array_equal(found, expected)


def test_swatches_have_their_colours():
    rows = [Row("codes", [tile(0, 120)], legend=[("chair", RED), ("sofa", (0.0, 0.4, 1.0))])]
    drawn = sheet(rows)
    corners = layout(rows, (120, 30)).legends[0]
    for (x, y), color in zip(corners, ([255, 0, 0], [0, 102, 255]), strict=True):
        swatch = drawn[y + 4 : y + 16, x : x + 12]
        assert (swatch == color).all()
        assert (drawn[y + 4 : y + 16, x + 12] == 255).all()


def test_the_margins_are_white_whatever_the_words_are():
    long = "words without end " * 50
    rows = [Row(long, [tile(0)], f"{long}\n{long}", captions=[long])]
    drawn = sheet(rows, footer=long)
    dark = np.argwhere(drawn.min(-1) < 250)
    assert dark.min() >= 20
    assert (dark.max(0) < np.array(drawn.shape[:2]) - 20).all()
    # No word of the label column runs into the tile.
    assert (drawn[24 + 20 : 24 + 20 + 50, 24 + 132 - 4 : 24 + 132] == 255).all()
    twin = sheet([Row(long, [tile(0)], f"{long}\n{long}", captions=["a\nb\x1b[1m"])])
    assert twin.shape[1] == drawn.shape[1]


def test_long_names_keep_their_ends():
    drawn = [
        sheet([Row("photos", [tile(0, 200)], captions=[f"{'a long way to say ' * 9}{number}.jpg"])])
        for number in (1, 2)
    ]
    assert (drawn[0] != drawn[1]).any()
    twin = sheet([Row("photos", [tile(0, 200)], captions=["x" * 9000 + "end"])])
    assert twin.shape == drawn[0].shape


def test_what_cannot_be_laid_out_is_refused():
    for rows in ([], [Row("a", [])], [Row("a", [None])]):
        with pytest.raises(UsageError, match="not of 0"):
            sheet(rows)
    with pytest.raises(UsageError, match="not of 2"):
        tile_size([Row("a", [tile(0)]), Row("b", [tile(1, 41)])])
    with pytest.raises(UsageError, match="too large"):
        layout([Row("a", [tile(0)] * 16)] * 20, (4096, 4096))
