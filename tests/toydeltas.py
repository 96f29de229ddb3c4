"""Deltas of a map that does not exist: valid ones, with all that a delta can hold."""

import numpy as np

from ffsplat.stream.delta import FramePoses, MapDelta, SplatRows
from ffsplat.types import Codebook


def empty_splats() -> SplatRows:
    return random_splats(np.random.default_rng(0), np.zeros(0, np.uint32), [0], 1)


def empty_frames() -> FramePoses:
    return random_frames(np.random.default_rng(0), np.zeros(0, np.int64), [0])


def empty_delta(number: int = 1, **changes) -> MapDelta:
    """A delta in which nothing changes but what is told."""
    values = {
        "number": number,
        "epoch": 0,
        "time_ns": 1_000 + number,
        "splats": empty_splats(),
        "removed": np.zeros(0, np.uint32),
        "submaps": np.zeros(0, np.uint16),
        "submap_poses": np.zeros((0, 8)),
        "removed_submaps": np.zeros(0, np.uint16),
        "frames": empty_frames(),
    }
    return MapDelta(**(values | changes))


def random_quaternions(rng: np.random.Generator, count: int) -> np.ndarray:
    quaternions = rng.normal(size=(count, 4))
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def random_splats(rng: np.random.Generator, gids: np.ndarray, submaps, rows: int) -> SplatRows:
    """Gaussians at these places, in some of these submaps, with codes on `rows` rows."""
    n = len(gids)
    ids = rng.integers(-1, rows, (n, 4)).astype(np.int16)
    return SplatRows(
        gids=gids.astype(np.uint32),
        submaps=rng.choice(np.asarray(submaps, np.uint16), n),
        means=rng.normal(size=(n, 3)).astype(np.float32),
        scales=rng.uniform(0.01, 0.1, (n, 3)).astype(np.float16),
        quaternions_wxyz=np.rint(127 * random_quaternions(rng, n)).astype(np.int8),
        opacities=rng.integers(0, 256, n).astype(np.uint8),
        colors=rng.integers(0, 256, (n, 3)).astype(np.uint8),
        ids=ids,
        weights=np.where(ids < 0, 0, rng.integers(1, 256, (n, 4))).astype(np.uint8),
        instances=rng.integers(-1, 9, n).astype(np.int32),
    )


def random_frames(rng: np.random.Generator, numbers: np.ndarray, submaps) -> FramePoses:
    c = len(numbers)
    return FramePoses(
        numbers=numbers.astype(np.int64),
        times_ns=rng.integers(0, 2**60, c),
        submaps=rng.choice(np.asarray(submaps, np.uint16), c),
        poses=np.hstack([random_quaternions(rng, c), rng.normal(size=(c, 3))]),
        intrinsics=np.tile(np.array([500, 510, 320, 240, 640, 480], np.float32), (c, 1)),
        keyframes=rng.integers(0, 2, c).astype(np.uint8),
    )


def random_codebook(rng: np.random.Generator, rows: int) -> Codebook:
    table = rng.normal(size=(rows, 8)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return Codebook(
        names=tuple("" if i % 3 == 2 else f"thing {i} ü" for i in range(rows)),
        levels=rng.integers(0, 3, rows).astype(np.int8),
        parents=np.full(rows, -1, np.int16),
        counts=rng.integers(0, 9, rows).astype(np.float32),
        spaces={"toy": table.astype(np.float16)},
    )


class ToyMap:
    """Draws one delta after the other, as a map would make them: all that they name is there."""

    def __init__(self, seed: int, places: int = 60):
        self.rng = np.random.default_rng(seed)
        self.places = places
        self.submaps: dict[int, np.ndarray] = {}
        self.rows = self.number = self.frames = self.epoch = 0

    def next(self) -> MapDelta:
        rng, first = self.rng, not self.submaps
        self.number += 1
        gone = set() if first or rng.random() < 0.8 else {int(rng.choice(list(self.submaps)))}
        kept = set(self.submaps) - gone
        fresh = {int(rng.integers(0, 12))} if not kept or rng.random() < 0.4 else set()
        moved = kept if rng.random() < 0.2 else set()
        self.epoch += bool(moved)
        given = sorted(moved | fresh)
        poses = np.hstack(
            [
                rng.uniform(0.5, 2, (len(given), 1)),
                random_quaternions(rng, len(given)),
                rng.normal(size=(len(given), 3)),
            ]
        )
        self.submaps = {s: self.submaps.get(s) for s in kept} | dict(zip(given, poses, strict=True))
        row_map, codebook = self._rows(first)
        there = list(self.submaps)
        gids = np.flatnonzero(rng.random(self.places) < 0.2)
        numbers = rng.integers(max(0, self.frames - 2), self.frames + 3, rng.integers(0, 5))
        self.frames += 2
        return MapDelta(
            number=self.number,
            epoch=self.epoch,
            time_ns=int(rng.integers(0, 2**60)),
            splats=random_splats(rng, rng.permutation(gids), there, self.rows),
            removed=np.flatnonzero(rng.random(self.places) < 0.1).astype(np.uint32),
            submaps=np.array(given, np.uint16),
            submap_poses=poses,
            removed_submaps=np.array(sorted(gone), np.uint16),
            frames=random_frames(rng, numbers, there),
            row_map=row_map,
            codebook=codebook,
        )

    def _rows(self, first: bool):
        """The table changes now and then; old rows go, join or move when it does."""
        if not first and self.rng.random() < 0.7:
            return None, None
        before, self.rows = self.rows, int(self.rng.integers(3, 9))
        row_map = self.rng.integers(-1, self.rows, before).astype(np.int16)
        return None if first else row_map, random_codebook(self.rng, self.rows)
