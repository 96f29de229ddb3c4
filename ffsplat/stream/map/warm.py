"""Everything that a map does, done once on next to nothing, so that no frame waits for it."""

import numpy as np

from ffsplat.alignment import Similarity
from ffsplat.stream.map.observed import Observed
from ffsplat.stream.map.splat_map import SplatMap
from ffsplat.stream.settings import MapperSettings


def warm_up() -> None:
    """Compile all kernels, or load them from numba's cache: a fraction of a second then."""
    settings = MapperSettings(max_splats=2, max_submaps=1)
    splats = SplatMap(settings, 1.0)
    number = splats.add_submap(Similarity.identity())
    observed = Observed(
        means=np.arange(9, dtype=np.float32).reshape(3, 3),
        scales=np.ones((3, 3), np.float32),
        quaternions_wxyz=np.ones((3, 4), np.float32),
        opacities=np.ones(3, np.float32),
        colors=np.ones((3, 3), np.float32),
        confidence=np.ones(3, np.float32),
        ids=np.zeros((3, 1), np.int16),
        weights=np.ones((3, 1), np.float32),
        instances=np.zeros(3, np.int32),
        target=np.full(3, -1, np.int32),
    )
    for now in range(2):  # the second time something has to give way
        splats.fuse(observed[now : now + 2], number, [], now)
    splats.remap(np.zeros(1, np.int16))
    splats = SplatMap.from_state(settings, splats.state())
    splats.take_changes()
    splats.gaussians()
    flat = np.full((1, 1), 10.0, np.float32)
    splats.carve(flat, np.eye(4), np.eye(3), 0 * flat, flat > 0, [number])
    splats.remove_submap(number)
