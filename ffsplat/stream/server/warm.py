"""Questions made ready before the first one, which would else wait for compilers."""

import importlib
import logging

import numpy as np

from ffsplat.stream.delta import FramePoses, MapDelta, SplatRows
from ffsplat.stream.protocol.control import Query
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server.queries import search
from ffsplat.types import Codebook

log = logging.getLogger(__name__)

WORD = "wall"
"""The first word of the lexicon, for which the first column of the space stands."""

COUNT = 8
"""Gaussians of the map that is asked: enough for a hit."""


def warm_up() -> None:
    """Ask for a thing in an invented map that consists of it; to be called in a thread.

    Where that fails the first question has to wait, or says what is wrong.
    """
    try:
        importlib.import_module("numba")  # as the mapper does: then it answers questions too
        replica = Replica()
        replica.apply(_map())
        search(replica, Query(0, WORD))
    except Exception as error:  # noqa: BLE001 - nobody waits for this thread
        log.warning("questions could not be readied: %s: %s", type(error).__name__, error)


def _map() -> MapDelta:
    """The first delta of a map of one thing."""
    here = np.array([[1, 1, 0, 0, 0, 0, 0, 0]], np.float64)
    book = Codebook(
        names=(WORD,),
        levels=np.zeros(1, np.int8),
        parents=np.full(1, -1, np.int16),
        counts=np.ones(1, np.float32),
        spaces={"lexicon": np.ones((1, 1), np.float16)},
    )
    submaps, none = np.zeros(1, np.uint16), np.zeros(0, np.uint32)
    no_frames = FramePoses(
        numbers=np.zeros(0, np.int64),
        times_ns=np.zeros(0, np.int64),
        submaps=submaps[:0],
        poses=np.zeros((0, 7)),
        intrinsics=np.zeros((0, 6), np.float32),
        keyframes=np.zeros(0, np.uint8),
    )
    return MapDelta(1, 0, 0, _splats(), none, submaps, here, submaps[:0], no_frames, codebook=book)


def _splats() -> SplatRows:
    """Gaussians of the thing in the only row of the codebook."""
    return SplatRows(
        gids=np.arange(COUNT, dtype=np.uint32),
        submaps=np.zeros(COUNT, np.uint16),
        means=np.zeros((COUNT, 3), np.float32),
        scales=np.ones((COUNT, 3), np.float16),
        quaternions_wxyz=np.tile(np.array([127, 0, 0, 0], np.int8), (COUNT, 1)),
        opacities=np.full(COUNT, 255, np.uint8),
        colors=np.zeros((COUNT, 3), np.uint8),
        ids=np.tile(np.array([0, -1, -1, -1], np.int16), (COUNT, 1)),
        weights=np.tile(np.array([255, 0, 0, 0], np.uint8), (COUNT, 1)),
        instances=np.zeros(COUNT, np.int32),
    )
