"""A pass that is replayed says what a call says, and does nothing that cannot be recorded."""

import warnings
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ffsplat import load, one_pass
from ffsplat.captured import Captured
from ffsplat.device import on_cpu
from ffsplat.model import FFSplat
from ffsplat.one_pass import OnePass
from ffsplat.refine.matches import find_matches
from ffsplat.remembered import ViewMemory
from tests.nn.test_model import TINY, close, outputs, woken
from tests.tape import Tape
from tests.test_remembered import told, views_of
from tests.zoo.da3_recipe import REDUCED
from tests.zoo.test_da3 import imported

CPU = torch.device("cpu")
WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


@pytest.fixture(scope="module")
def network() -> FFSplat:
    return woken(TINY)


class Untold(TorchDispatchMode):
    """Names what a graph of a GPU's work cannot hold: copies from the host and waiting for it."""

    def __init__(self):
        super().__init__()
        self.found, self.count = [], 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        tensors = [one for one in tree_leaves((arguments, result)) if isinstance(one, torch.Tensor)]
        # A single number of the host goes along with a kernel.
        if function in WAITS or any(one.device == CPU and one.ndim for one in tensors):
            self.found.append(function)
        self.count += 1
        return result


def replaying(network: FFSplat, monkeypatch) -> tuple[OnePass, list[Tape]]:
    """A pass on the CPU whose functions are recorded on tapes."""
    one, tapes = OnePass(network, CPU, False), [Tape() for _ in range(3)]
    captured = {
        name: Captured(function, tape)
        for (name, function), tape in zip(one._plain.items(), tapes, strict=True)
    }
    monkeypatch.setattr(one, "_replayed", captured)
    return one, tapes


@pytest.mark.parametrize("padded", [False, True])
def test_passes_that_are_replayed_say_what_calls_say(network, padded, monkeypatch):
    one, tapes = replaying(network, monkeypatch)
    memory = ViewMemory()
    for seeds in ((1, 2, 3), (1, 3, 4), (1, 5, 6), (7, 6, 5)):
        views = views_of(*seeds, padded=padded)
        for placed in (0, 2):
            got = one.predict(views, placed, memory)
            close(got, told(network, views, placed=placed))
        matches = one.matches(got, one.valid(views))
        expected = find_matches(got, one.valid(views))
        for field in fields(expected):
            assert torch.equal(getattr(matches, field.name), getattr(expected, field.name))
    assert [tape.recorded for tape in tapes] == [2, 2, 1]
    assert [tape.replayed for tape in tapes] == [6, 5, 3]  # two references, three others


def test_large_passes_and_pairs_that_are_chosen_are_not_replayed(network, monkeypatch):
    one, tapes = replaying(network, monkeypatch)
    views = views_of(*range(8))
    said = one.predict(views, 0, None)
    for _ in range(2):
        close(one.predict(views, 0, None), said)
        one.matches(said, None)
    assert [tape.recorded for tape in tapes] == [1, 0, 0]
    monkeypatch.setattr(one_pass, "REPLAYED_PIXELS", 8 * views.valid[0].size - 1)
    before = tapes[0].replayed
    close(one.predict(views, 0, None), said)
    assert tapes[0].replayed == before


def test_only_networks_that_read_pixels_are_replayed_and_only_on_gpus(network):
    made = []

    def record(device: torch.device) -> Tape:
        made.append(device)
        return Tape()

    OnePass(network, CPU, False, record)
    OnePass(imported(REDUCED["da3-small"]), torch.device("cuda"), False, record)
    assert not made
    OnePass(network, torch.device("cuda"), False, record)
    assert made == [torch.device("cuda")] * 3


@pytest.mark.parametrize("views", [2, 4, 7])
@pytest.mark.parametrize("padded", [False, True])
def test_nothing_waits_for_a_gpu_or_copies_to_it(views, padded):
    """Run on a GPU that is only pretended: no kernel runs, but all that would is named."""
    network = woken(TINY)
    with FakeTensorMode(), warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # there is no autocast without a GPU
        gpu = torch.device("cuda:0")
        for module in network.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    fake = torch.nn.Parameter(torch.empty(value.shape, device=gpu))
                    module._parameters[name] = fake
        one = OnePass(network, gpu, True, lambda device: Tape())
        images = torch.rand(1, views, 3, 32, 64, device=gpu)
        valid = torch.ones(1, views, 32, 64, dtype=torch.bool, device=gpu) if padded else None
        with Untold() as watch:
            alone = one._plain["encode"](images, valid, True)
            said = one._plain["say"](images, valid, *alone.values(), placed=views - 1)
            given = ("descriptors", "depth", "depth_error", "intrinsics")
            one._plain["match"](*(said[name] for name in given), valid)
    assert watch.count > 500
    assert not watch.found


def test_records_reach_the_cpu_with_all_their_tensors(network):
    with torch.inference_mode():
        said = told(network, views_of(1, 2))
    close(on_cpu(said), said, 0)
    assert on_cpu(said).rays is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_gpu_passes_that_are_replayed_say_what_calls_say(dtype, monkeypatch):
    model = load("ffsplat-tiny", device="cuda", dtype=dtype)
    memory = ViewMemory()
    windows = [views_of(*seeds, padded=padded) for padded in (False, True)
               for seeds in ((1, 2, 3, 4), (1, 3, 4, 5), (1, 4, 6, 7), (2, 3, 1, 8))]  # fmt: skip
    said = [model.predict(views, 3, memory) for views in windows for _ in range(2)]
    placed = [model.place_cameras(one, views, True)
              for one, views in zip(said[::2], windows, strict=True)]  # fmt: skip
    assert [len(one) for one in model._pass._replayed.values()] == [2, 4, 2]
    monkeypatch.setattr(one_pass, "REPLAYED_PIXELS", 0)
    for row, views in enumerate(windows):
        plain = model.predict(views, 3, ViewMemory())
        for got in said[2 * row : 2 * row + 2]:
            close(got, plain, 0)
        for name, value in outputs(model.place_cameras(plain, views, True)).items():
            assert value.device == CPU
            torch.testing.assert_close(vars(placed[row])[name], value, atol=0, rtol=0)
    assert np.isfinite(placed[0].depth.numpy()).all()
