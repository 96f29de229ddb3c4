"""More photos than one pass of the network can hold.

`memory` says how many a pass may have, `plan` which ones, `place` puts a pass beside the one before
it by the views that both have, `join` makes one bounded scene of all, `run` does all of that.
"""

from ffsplat.chunks.join import Bound
from ffsplat.chunks.memory import CHUNK_VIEWS, MOST_VIEWS, free_memory, views_per_pass
from ffsplat.chunks.place import Placement
from ffsplat.chunks.plan import plan
from ffsplat.chunks.run import Passes, run_passes

__all__ = [
    "CHUNK_VIEWS",
    "MOST_VIEWS",
    "Bound",
    "Passes",
    "Placement",
    "free_memory",
    "plan",
    "run_passes",
    "views_per_pass",
]
