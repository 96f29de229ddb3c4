"""Clips: rooms by seed, which views are looked at, at which size and in which unit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from boxclips import box_clips

from data.clip import UNKNOWN
from data.rooms import SPLITS, render_rooms
from ffsplat.errors import UsageError
from train.clips import batch_from_clip
from train.evaluation.clips import (
    RoomClips,
    cameras_of,
    choose_views,
    normalize,
    set_unit,
    unlabelled,
    view_size,
)

CPU = torch.device("cpu")
SIZE = (48, 48)


@pytest.fixture(scope="module")
def clip():
    return box_clips(1, 4, 48)[0]


def test_rooms_are_those_of_their_seeds():
    seeds = range(SPLITS["preview"][40], SPLITS["preview"][42])
    clips = RoomClips(seeds, 3, 16, None, CPU)
    assert len(clips) == 2
    clip = clips[1]
    room = render_rooms([seeds[1]], 3, 16, 16)
    np.testing.assert_array_equal(clip.depth, room.depth[0])
    np.testing.assert_array_equal(clip.whole, room.whole[0])
    np.testing.assert_array_equal(clip.instance, room.instance[0])
    np.testing.assert_allclose(clip.images / 255, room.image[0], atol=0.5 / 255 + 1e-6)
    assert clip.metric
    assert clip.key == f"room-{seeds[1]}"
    np.testing.assert_array_equal(clips[1].images, clip.images)


def test_views_are_spread_and_novel_ones_lie_between():
    def chosen(available, count):
        return [views.tolist() for views in choose_views(available, count)]

    assert chosen(4, 2) == [[0, 3], [1, 2]]
    assert chosen(5, 3) == [[0, 2, 4], [1, 3]]
    assert chosen(9, 2) == [[0, 8], [1, 7]]
    assert chosen(4, 3) == [[0, 2, 3], [1]]
    assert chosen(3, 3) == [[0, 1, 2], []]
    for count in (1, 4):
        with pytest.raises(UsageError):
            choose_views(3, count)


def test_a_clip_is_looked_at_in_multiples_of_the_patch(clip):
    sizes = [view_size(clip, longer, 8) for longer in (None, 24, 30, 41, 99, 5)]
    assert sizes == [(48, 48), (24, 24), (24, 24), (40, 40), (48, 48), (8, 8)]
    maps = {name: getattr(clip, name)[:, :37] for name in ("depth", "whole", "part", "instance")}
    wide = replace(clip, images=clip.images[:, :37], **maps)
    assert [view_size(wide, longer, 8) for longer in (None, 24)] == [(32, 48), (16, 24)]


def test_nothing_is_labelled_in_what_is_unlabelled(clip):
    batch = batch_from_clip(clip, np.arange(2), SIZE)
    bare = unlabelled(batch)
    for name in ("whole", "part", "identity"):
        assert (getattr(bare, name) == UNKNOWN).all()
        assert (getattr(batch, name) != UNKNOWN).all()
    assert torch.equal(bare.depth, batch.depth)


def test_units(clip):
    batch = batch_from_clip(clip, np.arange(3), SIZE)
    assert set_unit(batch).item() == pytest.approx(clip.depth[:3].mean(), rel=1e-5)
    assert normalize(batch).depth is not None
    torch.testing.assert_close(normalize(batch).depth, batch.depth)
    unknown = normalize(replace(batch, metric=torch.tensor([False])))
    assert unknown.depth.mean().item() == pytest.approx(1)
    ratio = batch.world_from_camera[..., :3, 3] / set_unit(batch)
    torch.testing.assert_close(unknown.world_from_camera[..., :3, 3], ratio)
    bare = replace(batch, depth=torch.zeros_like(batch.depth))
    reach = batch.world_from_camera[0, :, :3, 3].norm(dim=-1).max()
    assert set_unit(bare).item() == pytest.approx(reach.item())
    still = replace(bare, world_from_camera=torch.eye(4).expand(1, 3, 4, 4))
    assert set_unit(still).item() == 1


def test_cameras_are_those_of_the_batch(clip):
    batch = batch_from_clip(clip, np.arange(3), SIZE)
    cameras = cameras_of(batch)
    assert cameras.sizes.tolist() == [[48, 48]] * 3
    np.testing.assert_array_equal(cameras.world_from_camera, batch.world_from_camera[0])
    np.testing.assert_array_equal(cameras.intrinsics, batch.intrinsics[0])
