import importlib
import sys

import numpy as np
import pytest

from ffsplat.stream.map import compiled, warm_up
from ffsplat.stream.map.compiled import lean

INNER = """
from ffsplat.stream.map.compiled import lean

@lean
def factor():
    return {}
"""
OUTER = """
from ffsplat.stream.map.compiled import lean
from inner_kernel import factor

@lean
def scaled(values):
    for i in range(len(values)):
        values[i] *= factor()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "outer_kernel.py").write_text(OUTER)
    yield tmp_path
    for name in ("inner_kernel", "outer_kernel"):
        sys.modules.pop(name, None)


def scaled_by(folder, factor):
    """What two files of kernels, imported anew, make of 1 once the inner one is written anew."""
    (folder / "inner_kernel.py").write_text(INNER.format(factor))
    for name in ("inner_kernel", "outer_kernel"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    values = np.ones(1)
    importlib.import_module("outer_kernel").scaled(values)
    return values[0]


def test_a_kernel_is_made_anew_when_one_that_is_built_into_it_changes(folder):
    assert scaled_by(folder, 2) == 2
    assert scaled_by(folder, 30) == 30


def test_a_numba_without_the_option_does_as_well(monkeypatch):
    def strict(function, **options):
        if options:
            raise KeyError("Unrecognized options")
        return function

    monkeypatch.setattr(compiled, "exactly_compiled", strict)
    assert lean(len) is len


def test_after_warming_up_nothing_is_left_to_compile():
    from ffsplat.stream.map import carve, changes, evict, fuse, pairs, table, world
    from tests.stream.map.made import observed, one_submap

    warm_up()
    kernels = [
        getattr(module, name)
        for module in (carve, changes, evict, fuse, pairs, table, world)
        for name in vars(module)
        if hasattr(getattr(module, name), "signatures")
    ]
    before = [len(kernel.signatures) for kernel in kernels]
    splats = one_submap(max_splats=3)
    for now in range(3):
        splats.fuse(observed(np.random.default_rng(now).random((3, 3))), 0, [0], now)
    frozen = observed([[0.5, 0.5, 0.5]])
    for array in vars(frozen).values():
        array.flags.writeable = False
    splats.fuse(frozen, 0, [], 3)
    splats.remap(np.zeros(1, np.int16))
    splats.take_changes()
    splats.rows(splats.alive())
    splats.gaussians()
    depth = np.ones((4, 4), np.float32)
    splats.carve(depth, np.eye(4), np.eye(3), depth, depth > 0, [0])
    type(splats).from_state(splats.settings, splats.state())
    splats.remove_submap(0)
    assert [len(kernel.signatures) for kernel in kernels] == before
