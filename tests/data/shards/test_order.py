"""The order of clips: a pure function that any number of processes can go on with."""

from collections import Counter
from itertools import chain, islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from data.shards import EndlessOrder, ShardDataset, ShardIndex, ordered_indices, write_shards
from data.shards.index import Shard
from data.shards.order import GROUP, epoch_order
from ffsplat.errors import UsageError


def index_of(*counts: int) -> ShardIndex:
    shards = [
        Shard(f"s-{i}.tar", 0, "", tuple(f"{i}-{j}" for j in range(n)), np.zeros((n, 3), np.int64))
        for i, n in enumerate(counts)
    ]
    return ShardIndex(tuple(shards))


def test_an_epoch_sees_every_clip_once_and_stays_in_a_few_shards():
    index = index_of(*[7, 3, 11] * 20)
    order = epoch_order(index, 1, 0)
    assert sorted(order.tolist()) == list(range(len(index)))
    shard = np.searchsorted(index.ends, order, side="right")
    visits = [
        list(dict.fromkeys(shard.tolist()).keys())[i : i + GROUP] for i in range(0, 60, GROUP)
    ]
    start = 0
    for group in visits:
        size = sum(len(index.shards[s]) for s in group)
        assert set(shard[start : start + size].tolist()) == set(group)
        start += size
    assert start == len(order)
    assert (np.diff(shard[:50]) != 0).mean() > 0.5, "clips of a group are mixed"
    assert visits != [list(range(i, min(i + GROUP, 60))) for i in range(0, 60, GROUP)]


def test_orders_differ_by_seed_and_epoch_and_are_uniform():
    index = index_of(*[10] * 10)
    orders = {tuple(epoch_order(index, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    firsts = Counter(int(epoch_order(index_of(2, 2, 2), 0, epoch)[0]) for epoch in range(1200))
    assert sorted(firsts) == list(range(6))
    assert max(abs(n - 200) for n in firsts.values()) < 60  # 4.6 standard deviations


def test_orders_are_these():
    """Literal numbers: every process, today and later, must find the order it goes on with."""
    assert epoch_order(index_of(4, 4), 0, 0).tolist() == [1, 0, 6, 4, 5, 2, 3, 7]
    assert epoch_order(index_of(*[1] * 12), 2, 3).tolist() == [9, 4, 8, 3, 10, 1, 11, 0, 2, 5, 7, 6]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_an_epoch(ranks):
    index = index_of(5, 9, 2, 4)
    shares = [ordered_indices(index, 3, 1, rank, ranks) for rank in range(ranks)]
    assert {len(share) for share in shares} == {20 // ranks}
    seen = np.concatenate(shares)
    assert len({*seen.tolist()}) == 20 // ranks * ranks
    assert {*seen.tolist()} == {*epoch_order(index, 3, 1)[: 20 // ranks * ranks].tolist()}


def test_two_ranks_see_each_clip_once_an_epoch_of_the_endless_order():
    index = index_of(5, 9, 2, 5)  # 21 clips: the ranks swap parity from epoch to epoch
    orders = [EndlessOrder(index, 3).since(rank, 2) for rank in range(2)]
    together = [next(orders[position % 2]) for position in range(3 * 21)]
    for epoch in range(3):
        assert together[epoch * 21 : epoch * 21 + 21] == epoch_order(index, 3, epoch).tolist()


def test_the_endless_order_forgets_nothing_that_matters():
    order = EndlessOrder(index_of(5, 9, 2, 5), 7)
    forwards = [order[position] for position in range(100)]
    assert [order[position] for position in reversed(range(100))] == forwards[::-1]
    assert list(islice(order.since(37, 3), 20)) == forwards[37:97:3]


def test_no_clips_have_no_order():
    with pytest.raises(UsageError):
        EndlessOrder(ShardIndex(()), 0)
    assert len(ordered_indices(index_of(2), 0, 0, 1, 3)) == 0


@pytest.fixture
def small(tmp_path, make_clip) -> Path:
    """33 clips of one image each, in 7 shards."""
    bare = {"depth": None, "whole": None, "part": None, "instance": None, "teachers": {}}
    clips = (make_clip(f"clip-{i}", i, 1, (2, 2), **bare) for i in range(33))
    write_shards(clips, tmp_path, "small", max_count=5)
    return tmp_path


def keys(dataset: ShardDataset, position: int, workers: int, count: int) -> list[str]:
    """The keys that a loader with so many workers gives from a position on."""
    loader = DataLoader(
        dataset,
        batch_size=10,
        sampler=islice(EndlessOrder(dataset.index, 5).since(position), 1200),
        num_workers=workers,
        collate_fn=lambda clips: [clip.key for clip in clips],
    )
    return list(islice(chain.from_iterable(loader), count))


@pytest.mark.parametrize("workers", [(0, 2), (2, 1)])
def test_a_killed_run_goes_on_exactly_with_other_workers(small, workers):
    dataset = ShardDataset(small)
    killed = int(np.random.default_rng(workers).integers(20, 120))
    order = EndlessOrder(dataset.index, 5)
    unbroken = [dataset.index.locate(order[i])[1].key for i in range(killed + 1000)]
    assert keys(dataset, 0, workers[0], killed) == unbroken[:killed]
    assert keys(ShardDataset(small), killed, workers[1], 1000) == unbroken[killed:]


def test_spawned_workers_get_the_same_dataset(small):
    dataset = ShardDataset(small)
    sent = ForkingPickler.loads(ForkingPickler.dumps(dataset))
    assert sent[20].key == dataset[20].key
    assert np.array_equal(sent[20].images, dataset[20].images)
