"""A model as the online mapper takes it (`stream.predictor`)."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int16

from ffsplat.codes import MAX_ROWS
from ffsplat.device import memory_errors
from ffsplat.prediction import PixelMeaning, Prediction
from ffsplat.pruning import confidences
from ffsplat.remembered import ViewMemory
from ffsplat.semantics.bank import Bank
from ffsplat.semantics.vocabulary import OpenVocabulary
from ffsplat.stream.delta import CODES
from ffsplat.types import Scene, Views


class ModelPredictor:
    """An `api.Model` as a mapper takes it; its bank of rows, if it has one, grows with the stream.

    `seconds`, if given, grows by the wall time of each stage.
    """

    def __init__(self, model: Any, refine: bool = True, seconds: dict[str, float] | None = None):
        self._model, self._refine = model, refine
        self._seconds = {} if seconds is None else seconds
        self.resolution, self.patch = model.config.resolution, model.config.patch
        self.metric, self.provenance = model.config.metric, model.provenance
        self._vocabulary = model.dense and OpenVocabulary(model.dense, model.masks)
        self.codebook = None if model.dense else model.codebook
        self._memory = ViewMemory()
        self._row_map: Int16[np.ndarray, " old"] | None = None

    def predict(self, views: Views, placed: int = 0) -> Prediction:
        """What the network says of a window, with placed cameras, on the CPU.

        Of the first `placed` views only what places them may be said.
        """
        model = self._model
        with (
            memory_errors(len(views), max(views.valid.shape[1:]), model.device),
            torch.inference_mode(),
        ):
            with timed(self._seconds, "network"):
                said = model.predict(views, placed, self._memory)
            with timed(self._seconds, "cameras"):
                return model.place_cameras(said, views, self._refine)

    def label(self, prediction: Prediction, views: Views) -> PixelMeaning | None:
        """What dense features say of these views, if there is a network for them."""
        if self._vocabulary is None:
            return None
        bank = self._vocabulary.bank
        if bank is not None and len(bank) > MAX_ROWS // 2:
            self._row_map = bank.compact()
        sure = confidences(prediction)[0].float().numpy()
        with torch.inference_mode(), timed(self._seconds, "meaning"):
            return self._vocabulary.label(prediction, views, sure, topk=CODES)

    def finish(self, scene: Scene) -> Scene:
        """The scene with the rows that are left of the bank."""
        return scene if self._vocabulary is None else self._vocabulary.finish(scene)

    def renumbered(self) -> Int16[np.ndarray, " old"] | None:
        """The new ID of each row of the bank, once after it was compacted."""
        row_map, self._row_map = self._row_map, None
        return row_map

    def state(self) -> dict[str, np.ndarray]:
        """The bank, if there is one."""
        bank = self._vocabulary and self._vocabulary.bank
        return bank.state() if bank else {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on with the bank that `state` gave, or without one."""
        if self._vocabulary is not None:
            self._vocabulary.bank = Bank.from_state(arrays) if arrays else None


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the wall time of a block to a stage."""
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
