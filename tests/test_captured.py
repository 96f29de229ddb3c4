"""What is replayed says what a call would; on a machine with a GPU also by CUDA's own graphs."""

import pytest
import torch

from ffsplat.captured import Captured, CudaRecorder
from tests.tape import Tape

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def weighed(x, extra=None, *, weight=1):
    total = weight * x if extra is None else weight * x + extra
    return {"total": total, "same": x, "sum": total.sum()}


def check(got, expected):
    assert got.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in got.items())


def test_calls_are_recorded_when_their_kind_comes_again():
    tape = Tape()
    captured = Captured(weighed, tape)
    for count, replayed in enumerate((0, 1, 2)):
        x = torch.full((2, 3), float(count))
        check(captured(x, None, weight=2), weighed(x, None, weight=2))
        assert (tape.recorded, tape.replayed) == (min(count, 1), replayed)
    assert len(captured) == 1


@pytest.mark.parametrize(
    ("tensors", "settings"),
    [
        ([torch.ones(3, 2), None], {}),
        ([torch.ones(2, 3, dtype=torch.float64), None], {}),
        ([torch.ones(2, 3), torch.ones(2, 3)], {}),
        ([torch.ones(2, 3), None], {"weight": 3}),
    ],
    ids=["shape", "dtype", "present", "setting"],
)
def test_other_kinds_are_recorded_by_themselves(tensors, settings):
    tape = Tape()
    captured = Captured(weighed, tape)
    x = torch.arange(6.0).reshape(2, 3)
    for _ in range(2):
        check(captured(x, None), weighed(x, None))
        check(captured(*tensors, **settings), weighed(*tensors, **settings))
    assert tape.recorded == 2


def test_what_was_returned_stays_when_the_next_call_is_replayed():
    captured = Captured(weighed, Tape())
    inputs = [torch.rand(4) for _ in range(4)]
    results = [captured(x) for x in inputs]
    for x, result in zip(inputs, results, strict=True):
        check(result, weighed(x))
    with torch.inference_mode():
        results[-1]["same"].zero_()  # nor do callers write into inputs and outputs of a graph
    check(captured(inputs[0]), weighed(inputs[0]))


def test_kinds_are_bounded_and_those_not_asked_for_longest_are_forgotten():
    tape = Tape()
    captured = Captured(weighed, tape, most=2)
    for size in (1, 1, 2, 2, 1, 3, 3):  # 3 takes the place of 2
        captured(torch.ones(size))
    assert (len(captured), tape.recorded) == (2, 3)
    captured(torch.ones(1))
    assert tape.recorded == 3
    captured(torch.ones(2))  # comes as if for the first time
    assert (len(captured), tape.recorded) == (1, 3)
    for size in range(10, 20):
        captured(torch.ones(size))
    assert len(captured) == 0


def test_what_cannot_be_recorded_is_called(caplog):
    asked = []

    def refuse(run):
        asked.append(run)
        raise RuntimeError("operation not permitted when stream is capturing")

    captured = Captured(weighed, refuse)
    for size in (2, 2, 2, 3, 3):
        x = torch.rand(size)
        check(captured(x), weighed(x))
    assert len(asked) == 1
    assert "not permitted" in caplog.text


@CUDA
def test_graphs_of_cuda_say_what_calls_do():
    device = torch.device("cuda")
    layer = torch.nn.Linear(64, 64, device=device)

    def function(x, mask=None, *, times=1):
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            for _ in range(times):
                x = layer(x).relu()
        return {"x": x if mask is None else x * mask, "mean": x.float().mean()}

    captured = Captured(function, CudaRecorder(device))
    kept = []
    with torch.inference_mode():
        for _ in range(3):
            for rows, times in ((8, 1), (100, 3), (8, 2)):
                for mask in (None, torch.rand(rows, 1, device=device) > 0.5):
                    x = torch.rand(rows, 64, device=device)
                    kept.append((captured(x, mask, times=times), function(x, mask, times=times)))
    assert len(captured) == 6
    for got, expected in kept:
        check(got, expected)
