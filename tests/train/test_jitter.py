"""Jitter by hand values, and alike for whoever holds a set."""

import numpy as np
import pytest
import torch

from train.jitter import Jitter

NOTHING = dict.fromkeys(
    ("exposure", "tint", "gamma", "contrast", "saturation", "sharpness", "vignette", "noise"), 0.0
)
STRONG = Jitter(0.3, 0.1, 0.2, 0.2, 0.3, 0.5, 0.3, 0.03)


def jitter(images: torch.Tensor, seed: int = 1, **strengths) -> torch.Tensor:
    sets = len(images)
    random = np.random.default_rng(seed)
    return Jitter(**NOTHING | strengths)(images, np.arange(sets), sets, random)


def coloured() -> torch.Tensor:
    """Sets of two views with a red and a blue half; seed 1 turns none of them grey."""
    images = torch.full((2, 2, 3, 8, 8), 0.2)
    images[:, :, 0, :, :4], images[:, :, 2, :, 4:] = 0.6, 0.7
    return images


def test_no_strength_is_no_change():
    torch.testing.assert_close(jitter(coloured()), coloured())


@pytest.mark.parametrize("name", ["exposure", "gamma", "contrast", "saturation", "sharpness"])
def test_each_strength_changes_something_and_stays_in_range(name):
    changed = jitter(coloured(), **{name: 0.5})
    assert not torch.allclose(changed, coloured(), atol=1e-3)
    assert 0 <= changed.min() <= changed.max() <= 1


def test_contrast_keeps_middle_grey_and_saturation_keeps_greys():
    torch.testing.assert_close(jitter(torch.full((1, 1, 3, 4, 4), 0.5), contrast=1.0),
                               torch.full((1, 1, 3, 4, 4), 0.5))  # fmt: skip
    grey = torch.rand(1, 1, 1, 4, 4).expand(1, 1, 3, 4, 4)
    torch.testing.assert_close(jitter(grey, saturation=1.0), grey)
    # Saturation moves a colour along the line from its mean.
    before, after = coloured()[..., 0, 0], jitter(coloured(), saturation=0.2)[..., 0, 0]
    spread = [colour - colour.mean(-1, keepdim=True) for colour in (before, after)]
    ratio = spread[1] / spread[0]
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))


def test_sharpness_leaves_flat_parts_and_vignette_the_middle():
    flat = torch.full((1, 1, 3, 9, 9), 0.4)
    torch.testing.assert_close(jitter(flat, sharpness=2.0), flat)
    darker = jitter(flat, vignette=0.5)
    assert darker[0, 0, 0, 4, 4] == pytest.approx(0.4)
    assert darker[0, 0, 0, 0, 0] < darker[0, 0, 0, 0, 4] < 0.4


def test_a_set_is_changed_alike_by_whoever_holds_it():
    images = torch.rand(4, 2, 3, 8, 8)
    everything = STRONG(images, np.arange(4), 4, np.random.default_rng(3))
    odd = STRONG(images[1::2], np.arange(1, 4, 2), 4, np.random.default_rng(3))
    torch.testing.assert_close(everything[1::2], odd, atol=0, rtol=0)
    assert not torch.equal(everything, images)
