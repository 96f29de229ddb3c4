"""Questions about the live map, answered by worker threads while it grows."""

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from ffsplat.errors import UsageError
from ffsplat.hits import Hit
from ffsplat.query import query
from ffsplat.stream.protocol.control import MAX_GIDS, Error, FoundHit, Hits, Query, Vector
from ffsplat.stream.protocol.errors import UNANSWERABLE
from ffsplat.stream.protocol.runs import encode_gids
from ffsplat.stream.replica.replica import Replica

log = logging.getLogger(__name__)


def search(replica: Replica, asked: Query) -> Hits | Error:
    """The matches in the map, or why there are none: an unknown word, with its hint, is no breach.

    To be called in a worker thread.
    """
    try:
        scene, gids = replica.scene_and_gids()
        if scene.codebook is None or scene.codes is None:
            hint = "ask again when a frame was fused"
            why = "the map has no codebook yet"
            return Error(UNANSWERABLE, why, hint, retryable=True, id=asked.id)
        hits = query(scene, asked.text, threshold=asked.threshold, max_hits=asked.max_hits).hits
    except UsageError as error:
        return Error(UNANSWERABLE, str(error), error.hint or "", id=asked.id)
    except Exception:
        # What it says may name files of this machine, so only the log has it.
        log.exception("a query failed")
        return Error(UNANSWERABLE, "the query failed", "the server's log says why", id=asked.id)
    return Hits(asked.id, int(scene.provenance["delta"]), found_hits(hits, gids))


def found_hits(hits: Sequence[Hit], gids: Int64[np.ndarray, " n"]) -> tuple[FoundHit, ...]:
    """Hits as they go over the wire; `gids` are those of the scene's Gaussians, rising.

    The first hits say which Gaussians they are of, as far as that fits into a message.
    """
    room, found = MAX_GIDS, []
    for hit in hits:
        text = encode_gids(gids[np.sort(hit.rows)], room)
        room -= len(text or "")
        box = map(_vector, (hit.center, hit.minimum, hit.maximum))
        found.append(FoundHit(hit.name, hit.instance, hit.score, hit.count, *box, gids=text))
    return tuple(found)


def _vector(values) -> Vector:
    x, y, z = map(float, values)
    return x, y, z
