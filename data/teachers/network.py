"""A frozen network that answers photos with one feature a patch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16, UInt8
from torch import Tensor, nn

AT_ONCE = 16
"""Views in one pass through a network."""


class DenseNetwork(nn.Module, ABC):
    """A network for photos of any size: height and width are resized to whole patches."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, patch: tuple[int, int], width: int, mean: Sequence[float], std: Sequence[float]
    ):
        """`patch` is (height, width) in pixels, `width` the channels of a feature."""
        super().__init__()
        self.patch = patch
        self.width = width
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @abstractmethod
    def dense(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Features of normalised images of whole patches, one a patch."""

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Features of images in [0, 1] whose sides are whole patches."""
        return self.dense((images - self.mean) / self.std)

    @torch.inference_mode()
    def maps(
        self, images: UInt8[np.ndarray, "v h w 3"], shorter: int | None = None
    ) -> Float16[np.ndarray, "v c y x"]:
        """Feature maps of photos that are resized to `shorter` pixels along their shorter side.

        Without it they keep their size, but for the rounding to whole patches. A map covers its
        whole photo.
        """
        size = patched_size((images.shape[1], images.shape[2]), self.patch, shorter)
        found = []
        for start in range(0, len(images), AT_ONCE):
            some = torch.from_numpy(images[start : start + AT_ONCE]).to(self.mean.device)
            some = some.movedim(-1, 1).float() / 255
            resized = F.interpolate(some, size, mode="bicubic", antialias=True).clamp(0, 1)
            found.append(self(resized).half().cpu())
        return torch.cat(found).numpy()


def patched_size(
    size: tuple[int, int], patch: tuple[int, int], shorter: int | None
) -> tuple[int, int]:
    """(height, width) nearest to whole patches once the shorter side is scaled to `shorter`."""
    scale = 1.0 if shorter is None else shorter / min(size)
    height, width = (
        max(1, round(side * scale / step)) * step for side, step in zip(size, patch, strict=True)
    )
    return height, width
