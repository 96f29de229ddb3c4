"""More photos than one pass of the network can hold.

`memory` says how many a pass may have, `some` takes them apart, `place` puts one pass beside what
is known of its views, `join` makes one bounded scene of two.
"""

from ffsplat.chunks.memory import WINDOW, free_memory, views_per_pass
from ffsplat.chunks.place import Placement

__all__ = ["WINDOW", "Placement", "free_memory", "views_per_pass"]
