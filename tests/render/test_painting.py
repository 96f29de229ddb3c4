"""Painted views: the colours of single maps, names by the area that they cover, and heat."""

import numpy as np
import pytest
from small_room import small_room

from ffsplat.query import query
from ffsplat.render import orbit, render
from ffsplat.render.colors import depth_colors, label_colors, to_bytes
from ffsplat.render.painting import Painter

PATH = orbit(small_room(), 2, (48, 36))


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(small_room(), {"level": "whole"})


def test_plain_pictures_are_what_render_computes(painter):
    for what, painted in (
        ("rgb", to_bytes(render(painter.scene, PATH, "rgb"))),
        ("depth", [to_bytes(depth_colors(one)) for one in render(painter.scene, PATH, "depth")]),
        ("opacity", to_bytes(render(painter.scene, PATH, "opacity"))[..., None].repeat(3, -1)),
    ):
        for found, expected in zip(painter.plain(what, PATH), painted, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_names_stand_by_the_pixels_that_they_cover(painter):
    pictures, entries = painter.labels("codes", PATH)
    maps = render(painter.scene, PATH, "codes")
    rows, counts = np.unique(maps[maps >= 0], return_counts=True)
    book = painter.scene.codebook
    assert [name for name, _ in entries] == [book.names[row] for row in rows[np.argsort(-counts)]]
    for row in rows:
        color = dict(entries)[book.names[row]]
        np.testing.assert_allclose(color, label_colors(int(row) + 1)[row])
        for picture, labels in zip(pictures, maps, strict=True):
            assert (picture[labels == row] == to_bytes(np.array(color))).all()
    assert painter.labels("instance", PATH)[1] == []


def test_a_legend_is_added_at_the_side_of_the_same_picture(painter):
    pictures, _ = painter.labels("codes", PATH)
    for plain, labelled in zip(pictures, painter.with_legend("codes", PATH), strict=True):
        assert labelled.shape[1] > 48
        np.testing.assert_array_equal(labelled[:, :48], plain)


def test_progress_is_told_of_every_view():
    told = []
    list(Painter(small_room(), progress=told.append).plain("opacity", PATH))
    assert told == ["drawing 1 of 2", "drawing 2 of 2"]


def test_heat_is_grey_where_nothing_matches(painter):
    found = query(painter.scene, "lamp")
    for picture in painter.heat(found, PATH):
        assert np.ptp(picture.astype(int), axis=-1).max() <= 1
    for picture in painter.heat(query(painter.scene, "table"), PATH):
        assert np.ptp(picture.astype(int), axis=-1).max() > 20
