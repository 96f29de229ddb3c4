"""Functions of published systems, written out here from their papers and code, beside ours."""

import numpy as np
import pytest

from ffsplat import codes
from train.evaluation.label_features import label_vectors


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def test_codes_from_logits_are_the_soft_codes_of_langsplatv2(rng):
    """softmax_to_topk_soft_code (ZhaoYujie2002/LangSplatV2, 9a513cf), 1000 x 64, K = 4."""
    logits = 3 * rng.standard_normal((1000, 64))
    soft = softmax(logits)
    cut = np.zeros_like(soft)
    best = np.argsort(-soft, axis=1)[:, :4]
    np.put_along_axis(cut, best, np.take_along_axis(soft, best, 1), 1)
    wanted = cut / (cut.sum(axis=1, keepdims=True) + 1e-10)
    found = codes.to_dense(codes.from_logits(logits, 4), 64)
    np.testing.assert_allclose(found, wanted, atol=5e-4)  # weights are float16


def cached_codes(confidences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cache of EmbodiedSplat (0nandon/EmbodiedSplat, 734b7e8): 6 slots, 5 of them used.

    Frame r shows row r, with confidence d: the weights of the others shrink by 1 - d / (D + d).
    """
    frames, count = confidences.shape
    ids, weights = np.full((count, 6), -1), np.zeros((count, 6))
    for i in range(count):
        total = 0.0
        for frame in range(frames):
            d = confidences[frame, i]
            slot = min((ids[i] != -1).sum(), 5)
            weights[i] *= 1 - d / (total + d)
            ids[i, slot], weights[i, slot] = frame, d / (total + d)
            total += d
            order = np.argsort(-weights[i], kind="stable")
            ids[i], weights[i] = ids[i, order], weights[i, order]
    return ids[:, :5], weights[:, :5]


def test_fusing_at_once_keeps_what_embodiedsplats_cache_keeps(rng):
    frames, count = 12, 50
    confidences = rng.random((frames, count)).astype(np.float32) + 0.05
    ids, weights = cached_codes(confidences)
    rows = np.repeat(np.arange(frames), count)[:, None]
    single = codes.from_pairs(rows, np.ones((frames * count, 1)), 1)
    place = np.tile(np.arange(count), frames)
    fused = codes.fuse(single, place, confidences.ravel(), count, k=5)
    np.testing.assert_array_equal(np.sort(fused.ids, 1), np.sort(ids, 1))
    shares = np.sort(weights / weights.sum(axis=1, keepdims=True), axis=1)
    np.testing.assert_allclose(np.sort(fused.weights, 1), shares, atol=5e-4)


def test_scores_of_codes_are_the_cost_map_of_embodiedsplat(rng):
    """compute_costmap_2d: softmax of 100 times the weighted scores of the rows."""
    rows, texts = label_vectors(12, 32, rng), label_vectors(7, 32, rng)
    ids = np.stack([rng.permutation(12)[:5] for _ in range(40)])
    weights = rng.random((40, 5))
    code = codes.from_pairs(ids, weights, 5)
    shares = weights / weights.sum(axis=1, keepdims=True)
    per_row = rows @ texts.T
    wanted = softmax(100 * np.einsum("nk,nkt->nt", shares, per_row[ids]))
    found = softmax(100 * codes.score(code, per_row))
    np.testing.assert_allclose(found, wanted, atol=5e-3)
    np.testing.assert_array_equal(found.argmax(1), wanted.argmax(1))
