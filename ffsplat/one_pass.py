"""A pass of views through a network on its device, and the matches of what it said, there too."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ffsplat.captured import Captured, CudaRecorder, Outputs, Recorder
from ffsplat.model import FFSplat
from ffsplat.nn.trunk import Alone
from ffsplat.prediction import Prediction
from ffsplat.refine.matches import PARTNERS, Matches, match_views
from ffsplat.remembered import ViewMemory
from ffsplat.types import Views

REPLAYED_PIXELS = 1 << 19
"""Of the views of a replayed pass, at most: more keep a GPU busy, and a graph keeps its memory."""


class OnePass:
    """A network in evaluation mode on a device, in float32 or (`reduced`) in bfloat16.

    On a GPU small passes are replayed (see `captured`), except by networks that read pyramids:
    those keep the sizes of photos in Python. `record` makes what records one function.
    """

    def __init__(
        self,
        network: FFSplat,
        device: torch.device,
        reduced: bool,
        record: Callable[[torch.device], Recorder] = CudaRecorder,
    ):
        self._network, self._device, self._reduced = network, device, reduced
        self._plain = {"say": self._say, "encode": self._encode, "match": _match}
        self._replayed: Mapping[str, Callable[..., Outputs]] = self._plain
        if device.type == "cuda" and network.config.read_out == "pixel":
            self._replayed = {
                name: Captured(function, record(device)) for name, function in self._plain.items()
            }

    def predict(self, views: Views, placed: int, memory: ViewMemory | None) -> Prediction:
        """What the network says, on its device; see `api.Model.predict`."""
        valid = self.valid(views)
        images = torch.from_numpy(views.pixels).movedim(-1, 1)[None].to(self._device)
        say, encode = self._by("say", images), self._by("encode", images)

        def alone(row: int) -> Alone:
            one = slice(row, row + 1)
            own = None if valid is None else valid[:, one]
            said = encode(images[:, one], own, reference=row == 0)
            return Alone(said.pop("tokens"), list(said.values()))

        with torch.inference_mode():
            if memory is None:
                said = say(images, valid, None, placed=placed)
            else:
                tokens, skips = memory.recall(views, alone)
                said = say(images, valid, tokens, *skips, placed=placed)
        return Prediction(**said)

    def matches(self, prediction: Prediction, valid: Bool[Tensor, "b v h w"] | None) -> Matches:
        """`refine.matches.find_matches` on the device, where the prediction is."""
        match = self._by("match", prediction.depth[:, :, None])
        if prediction.depth.shape[1] > PARTNERS + 1:  # how many pairs there are is then not known
            match = _match
        return Matches(
            **match(
                prediction.descriptors, prediction.depth, prediction.depth_error,
                prediction.intrinsics, valid,
            )
        )  # fmt: skip

    def valid(self, views: Views) -> Bool[Tensor, "1 v h w"] | None:
        """Which pixels are a photo's own; None where all are, which spares the masking."""
        return None if views.valid.all() else torch.from_numpy(views.valid)[None].to(self._device)

    def _by(self, name: str, images: Tensor) -> Callable[..., Outputs]:
        """How a function is called for such images."""
        b, v, _, h, w = images.shape
        by = self._replayed if b * v * h * w <= REPLAYED_PIXELS else self._plain
        return by[name]

    def _say(
        self,
        images: Float[Tensor, "b v 3 h w"],
        valid: Bool[Tensor, "b v h w"] | None,
        tokens: Tensor | None,
        *skips: Tensor,
        placed: int,
    ) -> Outputs:
        alone = None if tokens is None else Alone(tokens, list(skips))
        with self._precisely():
            said = self._network(images, valid, alone=alone, placed=placed)
        return {name: value for name, value in vars(said).items() if value is not None}

    def _encode(
        self,
        images: Float[Tensor, "b v 3 h w"],
        valid: Bool[Tensor, "b v h w"] | None,
        reference: bool,
    ) -> Outputs:
        with self._precisely():
            tokens, skips = self._network.encode_alone(images, valid, reference)
        return {"tokens": tokens} | {f"skip {level}": skip for level, skip in enumerate(skips)}

    def _precisely(self) -> torch.autocast:
        """In the precision asked for; a cache of weights would be lost with a graph's memory."""
        return torch.autocast(
            self._device.type, torch.bfloat16, enabled=self._reduced, cache_enabled=False
        )


def _match(
    descriptors: Tensor, depth: Tensor, error: Tensor, lenses: Tensor, valid: Tensor | None
) -> Outputs:
    return vars(match_views(descriptors, depth, error, lenses, valid))
