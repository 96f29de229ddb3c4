"""Resident clips: the steps of a source that reads files, from memory; and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toypool import make_clips

from data.clip import UNKNOWN
from data.shards import ShardDataset, write_shards
from ffsplat.errors import UsageError
from train.batches import Batches, crop_sizes
from train.clips import MISSING, ClipSource, ResidentSource
from train.data import SourceSettings, TrainingData
from train.plan import Draw, Plan

CPU = torch.device("cpu")
MAPS = ("images", "depth", "whole", "part", "identity")


def cut(clip, rows: int):
    """The upper rows of a clip, without teachers."""
    maps = {name: getattr(clip, name)[:, :rows] for name in MISSING}
    return replace(clip, images=clip.images[:, :rows], **maps, teachers={})


@pytest.fixture(scope="module", params=[32, 24], ids=["square", "wide"])
def shards(request, tmp_path_factory) -> ShardDataset:
    """Seven clips of four views; one has no labels, one no depth and one no unit."""
    clips = [cut(clip, request.param) for clip in make_clips(rooms=7, size=32)]
    clips[0] = replace(clips[0], whole=None, part=None, instance=None)
    clips[3] = replace(clips[3], depth=None)
    clips[4] = replace(clips[4], metric=False)
    return stored(clips, tmp_path_factory.mktemp("shards"))


def stored(clips, folder) -> ShardDataset:
    write_shards(iter(clips), folder, max_count=3)
    return ShardDataset(folder)


def resident(clips: ShardDataset, size: int = 32) -> ResidentSource:
    return ResidentSource(clips, size, 0, CPU)


@pytest.mark.parametrize("size", [16, 32, 48])
def test_a_run_sees_what_it_would_see_if_it_read_files(shards, size):
    for rank, ranks in ((0, 1), (1, 2)):
        plan = Plan([1], 8, (2, 4), 0, ranks)
        read, kept = (
            Batches([source], plan, seed=0, rank=rank, ranks=ranks)
            for source in (ClipSource(shards, size, 0), resident(shards, size))
        )
        shapes = set()
        for step in range(12):
            one, other = read[step], kept[step]
            shapes.add(one.images.shape[-2:])
            assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in MAPS)
            assert torch.equal(one.metric, other.metric)
            torch.testing.assert_close(one.intrinsics, other.intrinsics)
            torch.testing.assert_close(one.world_from_camera, other.world_from_camera)
        assert len(shapes) > 2


def test_a_clip_of_the_size_asked_for_keeps_its_pixels(tmp_path):
    clips = [replace(clip, teachers={}) for clip in make_clips(rooms=1, size=32)]
    source = resident(stored(clips, tmp_path))
    draw = Draw(source=0, views=4, sets=1, position=0)
    batch = source.batch(0, draw, np.arange(1), (32, 32), np.random.default_rng(0))
    order = [
        next(n for n in range(4) if np.array_equal(clips[0].images[n], image))
        for image in (batch.images[0] * 255).round().byte().movedim(1, -1).numpy()
    ]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_array_equal(batch.whole[0], clips[0].whole[order])
    np.testing.assert_allclose(batch.depth[0], clips[0].depth[order], rtol=1e-3)


def test_sizes_that_take_the_same_clips_share_them(shards):
    pools = resident(shards).pools
    assert set(pools) == set(crop_sizes(32))
    square = shards[0].images.shape[1] == 32
    assert len({id(pool["image"]) for pool in pools.values()}) == (1 if square else 2)


def test_what_no_clip_has_is_unknown_and_takes_no_memory(tmp_path):
    bare = {"depth": None, "whole": None, "part": None, "instance": None, "teachers": {}}
    source = resident(stored([replace(clip, **bare) for clip in make_clips()], tmp_path))
    assert (source.labels("whole") == UNKNOWN).all()
    assert source.pools[32, 32]["depth"].untyped_storage().nbytes() <= 8
    draw = Draw(source=0, views=2, sets=3, position=0)
    batch = source.batch(0, draw, np.arange(3), (32, 24), np.random.default_rng(0))
    assert not batch.depth.any()
    assert (batch.identity == UNKNOWN).all()


def test_labels_are_counted_where_they_are_known(shards):
    labels = resident(shards).labels("whole")
    known = torch.cat([torch.from_numpy(shards[row].whole.ravel()) for row in range(1, 7)])
    if shards[0].images.shape[1] == 32:
        counted = torch.bincount(labels[labels != UNKNOWN])
        assert torch.equal(counted, torch.bincount(known.long()))
    assert (labels[0] == UNKNOWN).all()


class Waiting(TorchDispatchMode):
    """Operations whose result a GPU would be waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not func.__name__.startswith(("_local_scalar_dense", "nonzero", "masked_select"))
        return func(*args, **(kwargs or {}))


def test_a_step_does_not_wait_for_the_device(shards):
    batches = Batches([resident(shards)], Plan([1], 8, (2, 4), 0), seed=0)
    with Waiting():
        for step in range(8):
            batches[step]


def test_clips_of_another_shape_are_named(tmp_path):
    clips = list(make_clips(rooms=3, size=32))
    high = replace(cut(clips[2], 24), key="other")
    with pytest.raises(UsageError, match="clip other has 4 views of 32 x 24 pixels"):
        resident(stored([*clips[:2], high], tmp_path / "sides"))
    arrays = (*MISSING, "images", "intrinsics", "world_from_camera")
    short = {name: getattr(clips[1], name)[:3] for name in arrays}
    clips[1] = replace(clips[1], **short, teachers={})
    with pytest.raises(UsageError, match="clip room-1 has 3 views"):
        resident(stored(clips[:2], tmp_path / "views"))


def test_clips_that_take_too_much_memory_are_refused_before_they_are_read(shards, monkeypatch):
    monkeypatch.setattr("train.clips.RESIDENT", 10_000)
    read, getitem = set(), ShardDataset.__getitem__
    monkeypatch.setattr(
        ShardDataset, "__getitem__", lambda self, row: read.add(row) or getitem(self, row)
    )
    with pytest.raises(UsageError, match="the 7 clips") as error:
        resident(shards)
    assert "lower the source's size" in error.value.hint
    assert read == {0}


def test_more_views_than_clips_have_are_refused(shards):
    source = resident(shards)
    draw = Draw(source=0, views=5, sets=1, position=0)
    with pytest.raises(UsageError, match="each clip has 4 views, not 5"):
        source.batch(0, draw, np.arange(1), (32, 32), np.random.default_rng(0))


def test_settings(shards, tmp_path):
    with pytest.raises(UsageError, match="only shards can be resident"):
        SourceSettings(pool=tmp_path, resident=True)
    settings = SourceSettings(shards=str(shards.folder), size=32, resident=True)
    with pytest.raises(UsageError, match="set readers to 0"):
        TrainingData([settings], readers=1)
    data = TrainingData([settings, replace(settings, resident=False)], images=8)
    strategy = SimpleNamespace(root_device=CPU)
    config = SimpleNamespace(patch=8)
    module = SimpleNamespace(network=SimpleNamespace(config=config))
    data.trainer = SimpleNamespace(
        global_rank=0, world_size=1, strategy=strategy, lightning_module=module
    )
    data.setup("fit")
    kept, read = data.batches.sources
    assert (type(kept), type(read)) == (ResidentSource, ClipSource)
    assert data.batches[0].images.shape[2] == 3
