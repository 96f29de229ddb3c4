import sys
from dataclasses import replace

import numpy as np

from ffsplat import codes
from ffsplat.stream.protocol.control import Hits, Query
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server import warm
from ffsplat.stream.server.queries import search
from ffsplat.types import Codebook
from tests.toydeltas import random_splats


def signatures():
    """For how many types of arguments each kernel of questions is compiled."""
    found = {"codes": len(codes._kernel().signatures)}
    for name, module in list(sys.modules.items()):
        if name.startswith(("ffsplat.hits", "ffsplat.query")):
            for value in vars(module).values():
                if hasattr(value, "signatures"):
                    found[f"{name}.{value.__name__}"] = len(value.signatures)
    return found


def test_questions_that_cannot_be_readied_are_warned_of(monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(warm, "search", fail)
    warm.warm_up()
    assert caplog.messages == ["questions could not be readied: RuntimeError: no compiler"]


def test_no_question_waits_for_a_kernel_after_warming_up():
    warm.warm_up()
    before = signatures()
    assert before["codes"] > 0
    assert before["ffsplat.hits.loops.gather"] > 0
    names = ("wall", "floor", "ceiling")  # the first of the lexicon, as the columns are
    book = Codebook(
        names=names,
        levels=np.zeros(3, np.int8),
        parents=np.full(3, -1, np.int16),
        counts=np.ones(3, np.float32),
        spaces={"lexicon": np.eye(3, dtype=np.float16)},
    )
    splats = random_splats(np.random.default_rng(1), np.arange(600), [0], 3)
    things = np.arange(600) % 3
    ids = np.full((600, 4), -1, np.int16)
    ids[:, 0] = things
    weights = np.where(ids < 0, 0, 255).astype(np.uint8)
    splats = replace(splats, ids=ids, weights=weights, instances=things.astype(np.int32))
    replica = Replica()
    replica.apply(replace(warm._map(), splats=splats, codebook=book))
    for text in names:
        answer = search(replica, Query(1, text))
        assert isinstance(answer, Hits)
        assert answer.hits
    assert signatures() == before
