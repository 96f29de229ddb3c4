from contextlib import suppress
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from toydeltas import ToyMap, empty_delta, random_codebook, random_frames, random_splats

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.protocol.document import read_document, write_document
from ffsplat.stream.protocol.errors import MALFORMED, ProtocolError
from ffsplat.stream.protocol.tensors import write_tensors

RNG = np.random.default_rng(0)
FULL = empty_delta(
    splats=random_splats(RNG, np.arange(3), [1], 4),
    removed=np.array([7], np.uint32),
    submaps=np.array([1, 2], np.uint16),
    submap_poses=np.array([[1.0, 1, 0, 0, 0, 1, 2, 3]] * 2),
    removed_submaps=np.array([3], np.uint16),
    frames=random_frames(RNG, np.arange(2), [1]),
    row_map=np.array([1, -1], np.int16),
    codebook=random_codebook(RNG, 4),
)


def same(one, other) -> bool:
    """Whether two deltas, or what is in them, are equal in all values and types."""
    if is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def tensors_of(delta: MapDelta) -> dict[str, np.ndarray]:
    return safetensors.numpy.load(write_document(delta))


def changed(rows, **columns):
    return replace(rows, **{k: np.asarray(v, getattr(rows, k).dtype) for k, v in columns.items()})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_delta_comes_back(seed):
    toy = ToyMap(seed)
    for _ in range(3):
        delta = toy.next()
        order = np.argsort(delta.splats.gids)
        assert same(
            read_document(write_document(delta)), replace(delta, splats=delta.splats[order])
        )


def test_the_library_reads_a_delta():
    tensors = tensors_of(FULL)
    assert tensors["about"].tolist() == [1, 0, 1001]
    assert np.array_equal(tensors["splats.means"], FULL.splats.means)
    assert tensors["codebook.names"].tobytes().decode().split("\n") == list(FULL.codebook.names)
    assert tensors["codebook.spaces"].tobytes() == b"toy"
    assert np.array_equal(tensors["codebook.space.0"], FULL.codebook.spaces["toy"])


def test_the_same_content_gives_the_same_bytes_in_any_order():
    turned = replace(
        FULL,
        splats=FULL.splats[::-1],
        submaps=FULL.submaps[::-1],
        submap_poses=FULL.submap_poses[::-1],
    )
    assert write_document(turned) == write_document(FULL)


def test_a_moved_submap_costs_66_bytes_and_nothing_else():
    sizes = []
    for count in (100, 200):
        poses = np.tile(FULL.submap_poses[:1], (count, 1))
        moved = empty_delta(submaps=np.arange(count, dtype=np.uint16), submap_poses=poses)
        sizes.append(len(write_document(moved)))
    assert abs(sizes[1] - sizes[0] - 6600) <= 64  # the header's own digits
    assert sizes[0] < 6600 + 2048


def test_what_stands_twice_is_not_sent():
    twice = FULL.splats[np.array([0, 0])]
    for delta in (
        replace(FULL, splats=twice),
        replace(FULL, submaps=np.array([1, 1], np.uint16)),
    ):
        with pytest.raises(ProtocolError, match="twice"):
            write_document(delta)


S, F, C = FULL.splats, FULL.frames, FULL.codebook


@pytest.mark.parametrize(
    "delta",
    [
        replace(FULL, number=-1),
        replace(FULL, epoch=-1),
        replace(FULL, splats=changed(S, means=S.means * np.nan)),
        replace(FULL, splats=changed(S, means=S.means * 0 + 2e9)),
        replace(FULL, splats=changed(S, scales=-S.scales)),
        replace(FULL, splats=changed(S, scales=S.scales * np.inf)),
        replace(FULL, splats=changed(S, quaternions_wxyz=S.quaternions_wxyz * 0)),
        replace(FULL, splats=changed(S, ids=S.ids * 0 - 2, weights=S.weights * 0)),
        replace(FULL, splats=changed(S, ids=S.ids * 0 - 1, weights=S.weights * 0 + 1)),
        replace(FULL, splats=changed(S, instances=S.instances * 0 - 2)),
        replace(FULL, submap_poses=FULL.submap_poses * 0),
        replace(FULL, submap_poses=FULL.submap_poses * 2),
        replace(FULL, submap_poses=FULL.submap_poses * np.array([1e10, 1, 1, 1, 1, 1, 1, 1])),
        replace(FULL, submap_poses=FULL.submap_poses * np.array([1, 1, 1, 1, 1, 1e10, 1, 1])),
        replace(FULL, submap_poses=FULL.submap_poses + np.inf),
        replace(FULL, submap_poses=FULL.submap_poses * np.array([1, 1e200, 1, 1, 1, 1, 1, 1])),
        replace(FULL, frames=changed(F, numbers=[-1, 2])),
        replace(FULL, frames=changed(F, poses=F.poses * 2)),
        replace(FULL, frames=changed(F, intrinsics=-F.intrinsics)),
        replace(FULL, frames=changed(F, intrinsics=F.intrinsics * 1e5)),
        replace(FULL, frames=changed(F, keyframes=[2, 0])),
        replace(FULL, row_map=np.array([-2], np.int16)),
        replace(FULL, codebook=replace(C, counts=-1 - C.counts)),
        replace(FULL, codebook=replace(C, names=("a\nb", *C.names[1:]))),
    ],
)
def test_values_that_a_map_cannot_hold_are_not_sent(delta):
    with pytest.raises(ProtocolError) as caught:
        write_document(delta)
    assert caught.value.code == MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"about": np.zeros(2, np.int64)},
        {"about": np.array([-1, 0, 0])},
        {"about": np.zeros(3, np.int32)},
        {"more": np.zeros(3, np.int32)},
        {"removed": np.array([2, 1], np.uint32)},
        {"removed": np.array([1, 1], np.uint32)},
        {"splats.gids": np.array([2, 1, 0], np.uint32)},
        {"splats.gids": np.array([1, 2], np.uint32)},
        {"splats.means": np.zeros((3, 4), np.float32)},
        {"splats.means": np.zeros(3, np.float32)},
        {"splats.means": np.full((3, 3), np.nan, np.float32)},
        {"submaps": np.array([1], np.uint16)},
        {"codebook.levels": np.array([0, 0, 0, 9], np.int8)},
        {"codebook.levels": np.zeros(3, np.int8)},
        {"codebook.names": np.frombuffer(b"a\nb\nc\n\xff", np.uint8)},
        {"codebook.spaces": np.frombuffer(b"toy\ntoy", np.uint8)},
        {"codebook.spaces": np.frombuffer(b"\n" * 40, np.uint8)},
        {"codebook.space.0": np.zeros((3, 8), np.float16)},
        {"codebook.space.0": np.zeros(4, np.float16)},
        {"codebook.space.1": np.zeros((4, 8), np.float16)},
    ],
)
def test_a_document_that_breaks_a_rule_is_refused(change):
    with pytest.raises(ProtocolError) as caught:
        read_document(write_tensors(tensors_of(FULL) | change))
    assert caught.value.code == MALFORMED


def test_a_codebook_does_not_keep_its_document():
    found = read_document(write_document(FULL)).codebook
    arrays = found.levels, found.parents, found.counts, found.spaces["toy"]
    assert all(array.base is None for array in arrays)


@pytest.mark.parametrize("name", sorted(tensors_of(FULL)))
def test_an_array_that_is_missing_is_missed(name):
    tensors = tensors_of(FULL)
    del tensors[name]
    if name == "row_map":
        assert read_document(write_tensors(tensors)).row_map is None
    else:
        with pytest.raises(ProtocolError):
            read_document(write_tensors(tensors))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=6))
def test_changed_documents_are_read_or_refused(at, change):
    whole = write_document(FULL)
    at %= len(whole)
    with suppress(ProtocolError):
        read_document(whole[:at] + change + whole[at + len(change) :])
