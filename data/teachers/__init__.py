"""Teachers: dense features of other networks, computed once and kept in the shards.

Made of `name` (which network, under which terms), `weights` (safetensors from the hub, from a file,
or random), `network` (photos in, a map of features out), `dense_clip` and `dense_vit` (the two
kinds), `record` (what is written beside the shards) and `taught` (shards in, shards out).
"""

from data.teachers.dense_clip import DenseClip
from data.teachers.dense_vit import DenseVit
from data.teachers.name import USUAL, NetworkName, licence_of, parse_name
from data.teachers.network import DenseNetwork
from data.teachers.record import Record, read_records
from data.teachers.taught import check_name, open_network, teach

__all__ = [
    "USUAL",
    "DenseClip",
    "DenseNetwork",
    "DenseVit",
    "NetworkName",
    "Record",
    "check_name",
    "licence_of",
    "open_network",
    "parse_name",
    "read_records",
    "teach",
]
