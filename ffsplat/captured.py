"""A function on a GPU, recorded as a CUDA graph for inputs of each kind and replayed after that.

A small network is hundreds of kernels that are done sooner than they are launched; a graph launches
them all at once.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

MOST = 16
"""Kinds of input that are known; a stream has some ten of them, most of them while it starts."""

Outputs = dict[str, Tensor]
Recorder = Callable[[Callable[[], Outputs]], tuple[Outputs, Callable[[], object]]]
"""Calls a function; returns what it says, and what says that again, in the same tensors."""


class Recording(NamedTuple):
    """A call that was recorded: `replay` computes `outputs` again from what `inputs` hold then."""

    inputs: tuple[Tensor | None, ...]
    outputs: Outputs
    replay: Callable[[], object]


class CudaRecorder:
    """Records calls on one GPU; the memory of all its graphs is shared, so one may run at a time.

    A graph overwrites what another left, except for its inputs.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], object]]:
        """What a call returns, and how it is run again."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.device(self._device):
            with torch.cuda.stream(self._stream):
                run()  # libraries take what they need on a stream, which a capture forbids
            current.wait_stream(self._stream)
            # Other threads may go on with what a capture forbids.
            with torch.cuda.graph(
                graph, self._pool, self._stream, capture_error_mode="thread_local"
            ):
                outputs = run()
        return outputs, graph.replay


class Captured:
    """A function of tensors and settings that returns tensors by name, without gradients.

    What comes for the second time, by shapes, dtypes, settings and which tensors are there, is
    recorded, and replayed from then on; of more than `most` kinds the one not asked for longest is
    forgotten. What is returned is the caller's own. The function must do the same work for all
    inputs of a kind, on the device alone, and the parameters that it reads must stay where they
    are.
    """

    def __init__(self, function: Callable[..., Outputs], record: Recorder, most: int = MOST):
        self._function, self._record, self._most = function, record, most
        self._known: OrderedDict[Hashable, Recording | None] = OrderedDict()
        self._lock = Lock()
        # Kept, as its traceback keeps the graph of a failed capture, which torch goes on to ask.
        self._error: RuntimeError | None = None

    def __len__(self) -> int:
        """How many kinds of input are recorded."""
        return sum(recording is not None for recording in self._known.values())

    @torch.inference_mode()
    def __call__(self, *tensors: Tensor | None, **settings: Hashable) -> Outputs:
        """What the function says; where it cannot be recorded it is called, from then on always."""
        with self._lock:
            recording = self._recording(tensors, settings)
            if recording is not None:
                for static, given in zip(recording.inputs, tensors, strict=True):
                    if static is not None and given is not None:
                        static.copy_(given)
                recording.replay()
                return {name: value.clone() for name, value in recording.outputs.items()}
        return self._function(*tensors, **settings)

    def _recording(
        self, tensors: Sequence[Tensor | None], settings: Mapping[str, Hashable]
    ) -> Recording | None:
        """The one for such inputs, made if they come for the second time."""
        key = signature(tensors, settings)
        again = key in self._known
        recording = self._known.pop(key, None)
        if recording is None and again and self._error is None:
            recording = self._recorded(tensors, settings)
        self._known[key] = recording
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return recording

    def _recorded(
        self, tensors: Sequence[Tensor | None], settings: Mapping[str, Hashable]
    ) -> Recording | None:
        inputs = tuple(None if one is None else one.clone() for one in tensors)
        try:
            outputs, replay = self._record(partial(self._function, *inputs, **settings))
        except RuntimeError as error:
            _log.warning("a GPU's work cannot be recorded, and is slower without: %s", error)
            self._error = error
            return None
        return Recording(inputs, outputs, replay)


def signature(tensors: Sequence[Tensor | None], settings: Mapping[str, Hashable]) -> Hashable:
    """What calls have in common that do the same work."""
    kinds = tuple(None if one is None else (tuple(one.shape), one.dtype) for one in tensors)
    return kinds, tuple(sorted(settings.items()))
