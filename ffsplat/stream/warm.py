"""A mapper made ready before its first frame, which would else wait for compilers."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ffsplat.stream.graph.warm import warm_up as warm_up_graph
from ffsplat.stream.map import warm_up as warm_up_map
from ffsplat.stream.resize import is_pillows
from ffsplat.stream.revisits import Revisits

if TYPE_CHECKING:
    from ffsplat.stream.mapper import Mapper

SPLATS = 100_000
"""Room of the map that is thrown away afterwards."""


def warm_up(mapper: "Mapper") -> None:
    """Send pictures through a mapper of the same network and settings, as frames that come back."""
    learnt = mapper.predictor.state()
    every = replace(mapper.settings, max_splats=SPLATS, overlap=2.0, believe=True)
    spare = type(mapper)(mapper.predictor, every)
    spare.revisits = Revisits(logs=False)
    shape = (3 * mapper.resolution // 4, mapper.resolution, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for step in range(every.window + 1):
        spare.add(np.roll(noise, step * mapper.resolution // 16, axis=1), 0)
        spare.take_delta()  # all that the frame left is done
        spare.revisits.candidate = 0  # the next window asks: is it the first place again?
    spare.finish()
    spare.take_delta()
    warm_up_map()
    warm_up_graph()
    is_pillows((4, 4), (2, 2))
    mapper.predictor.restore(learnt)
