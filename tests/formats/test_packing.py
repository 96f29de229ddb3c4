"""Bit fields, orders and weights in bytes, against plain definitions."""

import numpy as np
import pytest

from ffsplat.formats.columns import NO_CODE, WHOLE, pack_ids, pack_weights
from ffsplat.formats.gltf_read import half_turned
from ffsplat.formats.packing import (
    byte,
    check_promise,
    drop_largest,
    level,
    morton_order,
    restore_largest,
    unit,
)
from ffsplat.render.spherical import sh_basis
from tests.io.scenes import random_gaussians, random_scene


def test_the_smallest_three_say_everything():
    quaternions = random_gaussians(500).quaternions_wxyz
    largest, rest = drop_largest(quaternions)
    assert np.array_equal(largest, np.abs(quaternions).argmax(axis=1))
    assert np.abs(rest).max() <= np.sqrt(0.5) + 1e-6
    back = restore_largest(largest, rest)
    sign = np.sign(np.einsum("nk,nk->n", back, quaternions))[:, None]
    np.testing.assert_allclose(back * sign, quaternions, atol=1e-6)


def test_the_order_along_the_curve_is_that_of_interleaved_bits():
    means = random_gaussians(200).means
    low = means.min(axis=0).astype(float)
    cells = ((means - low) / (means.max(axis=0) - low).max() * (2**21 - 1)).astype(int)
    codes = [
        sum(
            (int(cell[axis]) >> bit & 1) << (3 * bit + axis)
            for bit in range(21)
            for axis in range(3)
        )
        for cell in cells
    ]
    assert np.array_equal(morton_order(means), np.argsort(codes, kind="stable"))


def test_rounding_goes_to_the_nearest_and_never_beyond_the_ends():
    assert byte(np.array([-3, 0.4, 0.6, 254.7, 300])).tolist() == [0, 0, 1, 255, 255]
    assert level(np.array([-1, 0, 0.5, 1, 2]), 10).tolist() == [0, 0, 512, 1023, 1023]


def test_unit_quaternions_stay_as_they_are():
    quaternions = random_gaussians(50).quaternions_wxyz
    assert unit(quaternions) is quaternions
    np.testing.assert_allclose(unit(quaternions * 3), quaternions, atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_weights_in_bytes_sum_to_one_and_stay_in_order(k):
    weights = random_scene(2000, codes=k).codes.weights
    parts = pack_weights(weights)
    assert set(parts.sum(axis=1, dtype=int)) == {0, WHOLE}  # the first has no evidence
    assert (np.diff(parts.astype(int), axis=1) <= 0).all()
    assert np.abs(parts / WHOLE - weights.astype(float)).max() < 1 / WHOLE + 1e-3


def test_an_id_whose_weight_comes_to_nothing_is_none():
    codes = random_scene(50).codes
    parts = pack_weights(codes.weights)
    ids = pack_ids(codes, parts)
    assert ((ids == NO_CODE) == ((codes.ids < 0) | (parts == 0))).all()


def test_promises_are_bounded_by_the_file():
    check_promise(60_000_000, 100)
    check_promise(6_000_000_000, 100_000_000)
    with pytest.raises(ValueError, match="promises 100000000 bytes in 100"):
        check_promise(100_000_000, 100)


def test_half_a_turn_of_gaussians_turns_what_they_look_like():
    """Colours seen from a turned direction, and turned covariances, are the same."""
    gaussians = random_gaussians(20, sh=16)
    turned = half_turned(gaussians)
    directions = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    flip = np.array([-1, -1, 1], np.float32)
    before = np.einsum("nk,nkc->nc", sh_basis(directions, 3), gaussians.sh)
    after = np.einsum("nk,nkc->nc", sh_basis(directions * flip, 3), turned.sh)
    np.testing.assert_allclose(after, before, atol=1e-5)
    np.testing.assert_allclose(turned.means, gaussians.means * flip)
    np.testing.assert_allclose(
        covariances(turned), flip[:, None] * covariances(gaussians) * flip, atol=1e-4
    )


def covariances(gaussians) -> np.ndarray:
    w, x, y, z = gaussians.quaternions_wxyz.T.astype(float)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    return np.einsum("nij,nj,nkj->nik", rotation, gaussians.scales.astype(float) ** 2, rotation)
