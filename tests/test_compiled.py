"""What numba keeps on disk, where several processes write at once or one is killed."""

import importlib
import sys

import numpy as np
import pytest

from ffsplat.compiled import exactly_compiled

PLAIN = "def total(values):\n    return values.sum()\n"


@pytest.fixture
def plain(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plain_total.py").write_text(PLAIN)
    importlib.invalidate_caches()
    yield importlib.import_module("plain_total").total
    sys.modules.pop("plain_total")


def cut_short(*_):
    raise OSError


def test_code_for_other_arguments_is_not_run(plain):
    """One process is killed when the index says what it was about to write over another's file."""
    first, second, third, fourth = (exactly_compiled(plain) for _ in range(4))
    integers, floats = np.arange(4, dtype=np.int32), np.arange(4, dtype=np.float32)
    file = first._cache._cache_file
    save_index = file._save_index

    def race(index):
        assert second(integers) == 6
        save_index(index)

    file._save_index, file._save_data = race, cut_short
    assert first(floats) == 6
    assert third(floats) == 6
    assert fourth(floats) == 6
    assert (sum(third.stats.cache_hits.values()), sum(fourth.stats.cache_hits.values())) == (0, 1)
