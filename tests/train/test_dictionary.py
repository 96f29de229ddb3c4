"""Dictionaries against loops, the original code's choices and data whose clusters are known."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lossdraws import draw, wave

from ffsplat.codebook import gram, validate
from ffsplat.errors import UsageError
from train import dictionary


def pairs() -> torch.Tensor:
    """40 features: 20, and each again with a little noise."""
    features = wave(40, 4, phase=1.0)
    features[20:] = features[:20] + 0.05 * wave(20, 4, phase=2.0)
    return features


def clusters(count: int = 6, size: int = 50, d: int = 16, seed: int = 0):
    """Unit centres far from each other, and features around them in no order."""
    centres = torch.linalg.qr(draw(d, d, seed=seed))[0][:count]
    features = centres.repeat_interleave(size, 0) + 0.05 * draw(count * size, d, seed=seed + 1)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    return centres, features[order]


def found(rows: torch.Tensor, features: torch.Tensor) -> list[int]:
    """Which feature each row is."""
    cosines = rows @ F.normalize(features, dim=-1).mT
    assert (cosines.amax(1) > 1 - 1e-6).all()
    return cosines.argmax(1).tolist()


def test_farthest_points_are_those_of_df3dgs():
    # fps_cosine_sampling(features, 6) of dai647/DF_3DGS.
    features = pairs()
    assert found(dictionary.farthest_points(features, 6), features) == [4, 9, 0, 27, 14, 32]
    # Features without a direction are no points, however many there are; lengths do not matter.
    holes = torch.cat([torch.zeros(5, 4), 3 * features, torch.full((2, 4), torch.nan)])
    assert found(dictionary.farthest_points(holes, 6), features) == [4, 9, 0, 27, 14, 32]
    with pytest.raises(UsageError, match="3 rows"):
        dictionary.farthest_points(holes[:7], 3)


def test_points_by_loops_in_blocks_and_whole(monkeypatch):
    features = draw(60, 5)
    whole = dictionary.farthest_points(features, 9)
    cosines = F.cosine_similarity(features[:, None], features[None], dim=-1).numpy()
    chosen = [int(cosines.min(1).argmin())]
    while len(chosen) < 9:
        rest = [i for i in range(60) if i not in chosen]
        chosen.append(min(rest, key=lambda i: cosines[i, chosen].max()))
    assert found(whole, features) == chosen
    monkeypatch.setattr(dictionary, "BLOCK", 130)
    torch.testing.assert_close(dictionary.farthest_points(features, 9), whole)


def test_update_is_the_moving_average_of_vqvae():
    book = dictionary.start(draw(5, 4, seed=1))
    rows = book.rows.numpy().copy()
    counts, sums = np.ones(5), rows.copy()
    for step in range(3):
        features = draw(30, 4, seed=10 + step)
        book = dictionary.update(book, features, decay=0.9)
        unit = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
        owner = [int(np.argmax([x @ row for row in rows])) for x in unit]
        for i in range(5):
            mine = [x for x, j in zip(unit, owner, strict=True) if i == j]
            counts[i] = 0.9 * counts[i] + 0.1 * len(mine)
            sums[i] = 0.9 * sums[i] + 0.1 * np.sum(mine, axis=0)
            mean = sums[i] / counts[i]
            rows[i] = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(book.rows.numpy(), rows, atol=1e-12)
        np.testing.assert_allclose(book.counts.numpy(), counts, atol=1e-12)


def test_update_without_decay_is_a_step_of_k_means():
    centres, features = clusters()
    book = dictionary.update(dictionary.start(centres), features, decay=0.0)
    unit = F.normalize(features, dim=-1)
    owner = (unit @ centres.mT).argmax(1)
    expected = torch.stack([F.normalize(unit[owner == i].sum(0), dim=0) for i in range(6)])
    torch.testing.assert_close(book.rows, expected)
    assert book.counts.tolist() == [50.0] * 6


def test_update_ignores_what_has_no_direction():
    book = dictionary.start(draw(5, 4, seed=1))
    features = draw(30, 4)
    holes = torch.cat([features, torch.zeros(3, 4), torch.full((2, 4), torch.inf)])
    for name, value in vars(dictionary.update(book, holes)).items():
        torch.testing.assert_close(value, getattr(dictionary.update(book, features), name))
    still = dictionary.update(book, torch.zeros(4, 4, dtype=torch.float64))
    torch.testing.assert_close(still.rows, book.rows)
    # A feature that cancels a row leaves it in its place.
    one = dictionary.start(torch.eye(2)[:1])
    opposite = dictionary.update(one, -torch.eye(2)[:1], decay=0.5)
    torch.testing.assert_close(opposite.rows, one.rows)


def test_dead_rows_restart_from_features():
    features = draw(7, 4)
    book = dictionary.start(draw(5, 4, seed=1))
    counts = torch.tensor([2e-6, 3.0, 1.0, 1e-6, 2.0], dtype=torch.float64)
    book = dictionary.Dictionary(book.rows, counts, book.sums)
    random = torch.Generator().manual_seed(0)
    fresh = dictionary.restart_dead(book, features, random, least=1e-5)
    alive = torch.tensor([1, 2, 4])
    for name, value in vars(book).items():
        assert torch.equal(getattr(fresh, name)[alive], value[alive])
    assert len(set(found(fresh.rows[[0, 3]], features))) == 2
    assert fresh.counts[[0, 3]].tolist() == [1.0, 1.0]
    torch.testing.assert_close(fresh.sums[[0, 3]], fresh.rows[[0, 3]])
    # One feature is enough for one row: the least used.
    single = dictionary.restart_dead(book, features[:1], random, least=1e-5)
    assert found(single.rows[3:4], features) == [0]
    assert torch.equal(single.rows[:3], book.rows[:3])
    none = dictionary.restart_dead(book, features, random, least=1e-9)
    assert torch.equal(none.rows, book.rows)


def test_growth_is_that_of_df3dgs():
    # The join and remove steps of 0_Adaptive_Data_Compression.py with these numbers.
    features = pairs()
    book = dictionary.start(features[[4, 9, 0, 27, 14, 32]])
    grown = dictionary.grow(book, features)
    expected = [4, 9, 0, 27, 14, 32, 5, 25, 26, 28, 33, 35, 36, 37, 38, 39]
    assert found(grown.rows, features) == expected
    # With a cap of 14 the original adds one too many, as many as a cap of 15 allows.
    capped = dictionary.grow(book, features, most=15)
    assert found(capped.rows, features) == [4, 9, 0, 27, 14, 32, 5, 33, 36, 37, 39]
    assert len(dictionary.grow(book, features, prune=2.0, most=14)) == 14
    assert len(dictionary.grow(book, features, most=3)) == 6


def test_growth_covers_and_keeps_what_was_counted():
    _, features = clusters()
    limits = {"join": 0.5, "prune": 0.8, "most": 1000}
    book = dictionary.grow(dictionary.start(features[:1]), features, **limits)
    assert len(book) == 6
    # All that was seen is still counted: the first row and what joined.
    cosines = F.normalize(features, dim=-1) @ F.normalize(features[0], dim=0)
    assert book.counts.sum().item() == pytest.approx(1 + int((cosines <= 0.5).sum()))
    torch.testing.assert_close(
        book.sums.sum(0),
        F.normalize(features, dim=-1)[cosines <= 0.5].sum(0) + F.normalize(features[0], dim=0),
    )
    again = dictionary.grow(book, features, **limits)
    assert torch.equal(again.rows, book.rows)
    with pytest.raises(UsageError, match="at most 32768"):
        dictionary.grow(book, features, most=40_000)


def test_the_use_of_a_repeated_row_goes_to_the_last_that_repeats_it():
    # 0 is within 12 degrees of both others, which are 20 apart.
    angles = torch.deg2rad(torch.tensor([0.0, -10.0, 10.0]))
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    book = dictionary.Dictionary(rows, torch.tensor([1.0, 2.0, 4.0]), rows)
    pruned = dictionary.grow(book, torch.zeros(0, 2), prune=math.cos(math.radians(12)))
    assert torch.equal(pruned.rows, rows[1:])
    assert pruned.counts.tolist() == [2.0, 5.0]
    torch.testing.assert_close(pruned.sums, torch.stack([rows[1], rows[2] + rows[0]]))


def test_training_finds_the_clusters():
    centres, features = clusters()
    # Two rows start where no feature will ever be nearest to them.
    bad = torch.cat([centres[:4], -centres.mean(0, keepdim=True).expand(2, -1)])
    batches = [features[i : i + 60] for _ in range(40) for i in range(0, 300, 60)]
    book = dictionary.train(dictionary.start(bad), batches, decay=0.9, least=0.02)
    assert (centres @ book.rows.mT).amax(1).min() > 0.98
    assert dictionary.quantization_error(book, features) < 0.03
    # Restarts are what does it.
    stuck = dictionary.train(dictionary.start(bad), batches, decay=0.9, least=0.0)
    assert dictionary.quantization_error(stuck, features) > 0.05
    same = dictionary.train(dictionary.start(bad), batches, decay=0.9, least=0.02)
    assert torch.equal(same.rows, book.rows)


def test_perplexity_counts_rows_in_use():
    book = dictionary.start(torch.eye(6))
    assert dictionary.perplexity(book) == pytest.approx(6)
    half = dictionary.Dictionary(book.rows, torch.tensor([2.0, 2, 2, 0, 0, 0]), book.sums)
    assert dictionary.perplexity(half) == pytest.approx(3)


def test_quantization_error_by_hand():
    book = dictionary.start(torch.eye(3)[:2])
    features = torch.tensor([[2.0, 0, 0], [1, 1, 0], [0, 0, 5], [0, 0, 0]])
    expected = (0 + 1 - math.sqrt(0.5) + 1) / 3
    assert dictionary.quantization_error(book, features) == pytest.approx(expected)


def test_codebook_of_a_dictionary():
    rows = dictionary.start(draw(5, 8)).rows
    book = dictionary.Dictionary(rows, torch.tensor([1.0, 5, 0, 5, 2]), rows)
    codebook = dictionary.to_codebook(book, "open_clip:small/test", "part")
    validate(codebook)
    assert codebook.counts.tolist() == [5, 5, 2, 1, 0]
    assert codebook.names == ("",) * 5
    assert set(codebook.levels.tolist()) == {1}
    expected = rows[[1, 3, 4, 0, 2]]
    np.testing.assert_allclose(
        codebook.spaces["open_clip:small/test"].astype(float), expected.numpy(), atol=1e-3
    )
    np.testing.assert_allclose(
        gram(codebook, "open_clip:small/test"), (expected @ expected.mT).numpy(), atol=2e-3
    )
    with pytest.raises(UsageError, match="no_level"):
        dictionary.to_codebook(book, "space", "no_level")
