"""The map of a stream: Gaussians in arrays of fixed size, found by the cell they lie in."""

from ffsplat.stream.map.changes import Changes
from ffsplat.stream.map.observed import Observed
from ffsplat.stream.map.splat_map import SplatMap
from ffsplat.stream.map.warm import warm_up

__all__ = ["Changes", "Observed", "SplatMap", "warm_up"]
