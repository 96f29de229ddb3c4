"""Matches between views, against the geometry of a box."""

import torch
from described import SIZE, exact_prediction

from ffsplat.refine import matches as module
from ffsplat.refine.matches import PARTNERS, _greatest, _pairs, find_matches


def test_matches_lie_where_geometry_says():
    prediction = exact_prediction(2)
    matches = find_matches(prediction, None)
    good = matches.confidence > 0.2
    assert good.sum() > 50
    pose = prediction.world_from_camera.double()
    local = torch.linalg.inv(pose[:, matches.target]) @ pose[:, matches.source]
    there = matches.points @ local[..., :3, :3].mT + local[..., None, :3, 3]
    error = (there[..., :2] / there[..., 2:] - matches.places).norm(dim=-1)[good]
    # In focal lengths: a cell is 0.08.
    assert error.median() < 0.02


def test_padding_is_never_matched():
    prediction = exact_prediction(2)
    valid = torch.ones(1, 2, SIZE, SIZE, dtype=torch.bool)
    valid[..., 32:] = False
    matches = find_matches(prediction, valid)
    trusted = matches.confidence > 0
    assert trusted.any()
    # The principal point is the canvas's middle: what is padded has a positive x.
    assert (matches.points[..., 0][trusted] < 0).all()
    assert (matches.places[..., 0][trusted] < 0.01).all()


def test_pairs_that_are_compared_a_few_at_a_time_match_alike(monkeypatch):
    together = find_matches(exact_prediction(4), None)
    monkeypatch.setattr(module, "LIKENESSES", 1)
    one_by_one = find_matches(exact_prediction(4), None)
    ends = [list(zip(one.source.tolist(), one.target.tolist(), strict=True))
            for one in (together, one_by_one)]  # fmt: skip
    assert sorted(ends[0]) == sorted(ends[1])
    order = [ends[1].index(pair) for pair in ends[0]]
    for name in ("points", "places", "confidence"):
        expected, found = getattr(together, name), getattr(one_by_one, name)[:, order]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_few_views_are_matched_with_all_and_of_many_each_with_those_most_like_it(monkeypatch):
    flat = torch.randn(1, PARTNERS + 1, 5, 8, generator=torch.Generator().manual_seed(0))
    assert _pairs(flat).T.tolist() == [[i, j] for i in range(7) for j in range(i + 1, 7)]
    monkeypatch.setattr(module, "PARTNERS", 2)
    mean = torch.nn.functional.normalize(flat[0].mean(1), dim=-1)
    expected = {(0, j) for j in range(1, 7)}
    for i, row in enumerate((mean @ mean.T).fill_diagonal_(-2)):
        expected |= {(min(i, j), max(i, j)) for j in row.topk(2).indices.tolist()}
    assert [tuple(pair) for pair in _pairs(flat).T.tolist()] == sorted(expected)


def test_the_greatest_of_rows_and_columns_are_those_that_torch_finds():
    likeness = torch.randint(0, 50, (2, 3, 20, 30)).float()
    likeness[0, 0, :, 3] = 7.0  # ties: the first is taken
    there, back = _greatest(likeness)
    assert (there == likeness.argmax(3)).all()
    assert (back == likeness.argmax(2)).all()
    likeness[:] = torch.nan
    assert all(((place >= 0) & (place < 20)).all() for place in _greatest(likeness))
