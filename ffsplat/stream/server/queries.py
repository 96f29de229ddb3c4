"""Questions about the live map, answered by worker threads while it grows."""

import logging

from ffsplat.errors import UsageError
from ffsplat.hits import Hit
from ffsplat.query import query
from ffsplat.stream.protocol.control import Error, FoundHit, Hits, Query, Vector
from ffsplat.stream.protocol.errors import UNANSWERABLE
from ffsplat.stream.replica.replica import Replica

log = logging.getLogger(__name__)


def search(replica: Replica, asked: Query) -> Hits | Error:
    """The matches in the map, or why there are none: an unknown word, with its hint, is no breach.

    To be called in a worker thread.
    """
    try:
        scene = replica.scene()
        if scene.codebook is None or scene.codes is None:
            raise UsageError("the map has no codebook yet", "ask again when a frame was fused")
        hits = query(scene, asked.text, threshold=asked.threshold, max_hits=asked.max_hits).hits
    except UsageError as error:
        return Error(UNANSWERABLE, str(error), error.hint or "", id=asked.id)
    except Exception:
        # What it says may name files of this machine, so only the log has it.
        log.exception("a query failed")
        return Error(UNANSWERABLE, "the query failed", "the server's log says why", id=asked.id)
    return Hits(asked.id, int(scene.provenance["delta"]), tuple(map(found_hit, hits)))


def found_hit(hit: Hit) -> FoundHit:
    """A hit as it goes over the wire: all of it but its rows."""
    return FoundHit(
        hit.name,
        hit.instance,
        hit.score,
        hit.count,
        _vector(hit.center),
        _vector(hit.minimum),
        _vector(hit.maximum),
    )


def _vector(values) -> Vector:
    x, y, z = map(float, values)
    return x, y, z
