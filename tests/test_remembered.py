"""What is remembered of photos is what would be computed again."""

import numpy as np
import pytest
import torch

from ffsplat.model import FFSplat
from ffsplat.remembered import ViewMemory
from ffsplat.types import Views, ViewSource
from tests.nn.test_model import TINY, close, outputs, woken
from tests.zoo.da3_recipe import REDUCED
from tests.zoo.test_da3 import imported

PLACING = ("depth", "depth_error", "scale", "world_from_camera", "intrinsics", "descriptors",
           "token_descriptors", "features")  # fmt: skip


@pytest.fixture(scope="module")
def network() -> FFSplat:
    return woken(TINY)


def views_of(*seeds: int, padded: bool = False, patch: int = 8) -> Views:
    """Photos of noise, one a seed."""
    shape = (3 * patch, 4 * patch, 3)
    pixels = np.stack([np.random.default_rng(seed).random(shape) for seed in seeds])
    valid = np.ones(pixels.shape[:3], bool)
    valid[0, 2 * patch :] = not padded
    source = ViewSource("", 4 * patch, 3 * patch, np.eye(3))
    lens = np.full((len(seeds), 3, 3), np.nan, np.float32)
    return Views(pixels.astype(np.float32), valid, lens, (source,) * len(seeds))


def told(network: FFSplat, views: Views, memory: ViewMemory | None = None, asked=(), placed=0):
    """What the network says, by a memory if there is one; `asked` collects rows it computed."""
    images = torch.from_numpy(views.pixels).movedim(-1, 1)[None]
    valid = None if views.valid.all() else torch.from_numpy(views.valid)[None]

    def encode(row: int):
        asked.append(row)
        own = None if valid is None else valid[:, row : row + 1]
        return network.encode_alone(images[:, row : row + 1], own, row == 0)

    with torch.inference_mode():
        alone = None if memory is None else memory.recall(views, encode)
        return network(images, valid, alone=alone, placed=placed)


def test_a_network_says_the_same_of_photos_that_it_remembers(network):
    memory, asked = ViewMemory(), []
    first = told(network, views_of(1, 2, 3), memory, asked)
    close(first, told(network, views_of(1, 2, 3)))
    again = told(network, views_of(1, 2, 3), memory, asked)
    assert asked == [0, 1, 2]
    assert all((value == vars(first)[name]).all() for name, value in outputs(again).items())


def test_only_new_photos_new_masks_and_new_references_are_computed(network):
    memory, asked = ViewMemory(), []
    for views, expected in (
        (views_of(1, 2, 3), [0, 1, 2]),
        (views_of(1, 3, 4), [2]),
        (views_of(3, 2, 1), [0, 2]),  # 3 is the reference now, 1 no longer
        (views_of(1, 2, padded=True), [0, 1]),
        (views_of(1, 2, padded=True), []),
    ):
        asked.clear()
        close(told(network, views, memory, asked), told(network, views))
        assert asked == expected


def test_a_memory_is_bounded_and_forgets_what_was_not_used_for_longest(network):
    memory, asked = ViewMemory(most=3), []
    for seeds in ((0, 1, 2), (0, 1), (0, 3)):
        told(network, views_of(*seeds), memory, asked)
    asked.clear()
    told(network, views_of(0, 1), memory, asked)
    assert len(memory) == 3
    assert not asked
    told(network, views_of(0, 2), memory, asked)
    assert asked == [1]


def test_of_views_that_are_only_placed_the_places_are_the_same(network):
    whole, some = told(network, views_of(1, 2, 3)), told(network, views_of(1, 2, 3), placed=2)
    for name, value in outputs(some).items():
        expected = vars(whole)[name] if name in PLACING else vars(whole)[name][:, 2:]
        torch.testing.assert_close(value, expected, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("padded", [False, True])
def test_foreign_networks_say_the_same_of_photos_that_they_remember(padded):
    foreign = imported(REDUCED["da3-small"])
    memory, asked = ViewMemory(), []
    for seeds in ((1, 2, 3, 4), (1, 3, 4, 5)):  # so many that the network chooses the reference
        views = views_of(*seeds, padded=padded, patch=foreign.config.patch)
        close(told(foreign, views, memory, asked), told(foreign, views))
    assert asked == [0, 1, 2, 3, 3]
