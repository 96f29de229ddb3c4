"""Rates and the ring, by hand values."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ffsplat.stream.server.counters import Counters
from ffsplat.stream.server.limits import TokenBucket
from ffsplat.stream.server.ring import OVERHEAD, Entry, Ring


def test_a_bucket_allows_a_second_at_once_and_then_its_rate():
    bucket = TokenBucket(4.0, now=10.0)
    assert [bucket.take(10.0) for _ in range(5)] == [True] * 4 + [False]
    assert bucket.wait() == pytest.approx(0.25)
    assert [bucket.take(10.25), bucket.take(10.25)] == [True, False]
    assert [bucket.take(100.0) for _ in range(5)] == [True] * 4 + [False]


def test_a_slow_bucket_still_holds_one():
    bucket = TokenBucket(0.5, now=0.0)
    assert [bucket.take(t) for t in (0.0, 1.0, 2.0, 3.0, 4.0)] == [True, False, True, False, True]


def entry(number: int, size: int = 100, time: float = 0.0) -> Entry:
    return Entry(number, (bytes(size),), time)


def test_a_ring_gives_what_follows_a_number():
    ring = Ring(seconds=10.0, max_bytes=1 << 20)
    assert (ring.number, ring.after(0), ring.reaches(0), ring.bytes_after(0)) == (None, None, 0, 0)
    for number in (5, 6, 7):
        ring.append(entry(number))
    assert [ring.reaches(n) for n in (3, 4, 5, 7, 8)] == [False, True, True, True, False]
    assert ring.after(3) is None
    assert ring.after(4).number == 5
    assert ring.after(6).number == 7
    assert ring.after(7) is None
    size = 100 + OVERHEAD
    assert [ring.bytes_after(n) for n in (3, 4, 5, 6, 7, 9)] == [
        3 * size,
        3 * size,
        2 * size,
        size,
        0,
        0,
    ]


def test_a_ring_forgets_what_is_old_or_too_much():
    ring = Ring(seconds=10.0, max_bytes=4 * (100 + OVERHEAD))
    for number in range(1, 9):
        ring.append(entry(number, time=float(number)))
    assert (len(ring), ring.number, ring.bytes) == (4, 8, 4 * (100 + OVERHEAD))
    assert ring.after(4).number == 5
    ring.append(entry(9, time=17.0))
    assert [ring.after(n) is not None for n in (5, 6, 7, 8)] == [False, True, True, True]
    ring.append(entry(10, size=5000, time=18.0))
    assert (len(ring), ring.bytes) == (0, 0)
    ring.append(entry(11, time=19.0))
    assert ring.after(10).number == 11
    assert ring.bytes_after(10) == 100 + OVERHEAD


def test_a_gap_empties_a_ring():
    ring = Ring(seconds=10.0, max_bytes=1 << 20)
    for number in (1, 2, 7):
        ring.append(entry(number))
    assert (len(ring), ring.bytes) == (1, 100 + OVERHEAD)
    assert not ring.reaches(2)
    assert ring.reaches(6)


def test_counters_are_read_by_another_parser():
    counters = Counters()
    counters.add("refused_total", reason="503")
    counters.add("refused_total", 2, reason="4401")
    counters.add("sent_bytes_total", 70)
    found = {}
    for family in text_string_to_metric_families(counters.text({"sessions": 3})):
        for sample in family.samples:
            found[sample.name, sample.labels.get("reason")] = sample.value
    assert found["ffsplat_server_refused_total", "503"] == 1
    assert found["ffsplat_server_refused_total", "4401"] == 2
    assert found["ffsplat_server_sent_bytes_total", None] == 70
    assert found["ffsplat_server_sessions", None] == 3
    assert found["ffsplat_server_queries_total", None] == 0
    assert counters["refused_total"] == 3
    with pytest.raises(KeyError):
        counters.add("no_such_total")
