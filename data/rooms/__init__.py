"""Procedural rooms: furnished, photographed and labelled by seed.

Made of `templates` (what furniture is), `layout` (what stands where), `scene` (primitives),
`cameras` (where to look from), `caster` (which primitive a ray meets), `shading`, `textures` and
`sensor` (what the photo looks like), `render` (all of it), `pool` (rooms kept on disk),
`clips` (rooms as shards hold them), `endless` (rooms made while a network trains), `path` and
`walk` (a camera that goes through a room for ever).
"""

from data.rooms.endless import endless_rooms
from data.rooms.labels import PART_NAMES, WHOLE_NAMES
from data.rooms.pool import load_chunk, load_pool, write_pool
from data.rooms.render import RoomBatch, render_rooms
from data.rooms.splits import SPLITS
from data.rooms.textures import Atlas, load_atlas

__all__ = [
    "PART_NAMES",
    "SPLITS",
    "WHOLE_NAMES",
    "Atlas",
    "RoomBatch",
    "endless_rooms",
    "load_atlas",
    "load_chunk",
    "load_pool",
    "render_rooms",
    "write_pool",
]
