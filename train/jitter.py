"""What cameras do to colours: changes that leave the geometry of a photo alone."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from train.batches import upload

GREY = 0.05
"""Share of the sets that lose their colour."""


@dataclass(frozen=True)
class Jitter:
    """How strong each change is, as a standard deviation; a set of views shares most of each."""

    exposure: float = 0.12
    """Log of a factor on all colours; each view of a set varies by 0.4 of it on its own."""
    tint: float = 0.06
    """Log of a factor on each channel."""
    gamma: float = 0.15
    """Log of an exponent."""
    contrast: float = 0.0
    """Log of a factor on the distance from middle grey."""
    saturation: float = 0.0
    """Log of a factor on the distance from grey."""
    sharpness: float = 0.0
    """Share of the detail of a pixel's surroundings that is added, or taken away as blur does."""
    vignette: float = 0.0
    """By how much the corners are darker than the middle; never brighter."""
    noise: float = 0.02
    """Highest standard deviation of a pixel's noise."""

    def __call__(
        self,
        images: Float[Tensor, "b v 3 h w"],
        own: np.ndarray,
        sets: int,
        random: np.random.Generator,
    ) -> Float[Tensor, "b v 3 h w"]:
        """Change sRGB images in [0, 1].

        `own` says which of the `sets` sets of a step these b are: a set changes in the same way
        whoever computes it.
        """
        views = images.shape[1]

        def draw(*shape: int) -> np.ndarray:
            return random.normal(size=(sets, *shape, 1, 1))[own]

        gain = self.exposure * (draw(1, 1) + 0.4 * draw(views, 1)) + self.tint * draw(1, 3)
        drawn = {
            "gain": np.exp(gain),
            "gamma": np.exp(self.gamma * draw(1, 1)),
            "contrast": np.exp(self.contrast * draw(1, 1)),
            "saturation": np.exp(self.saturation * draw(1, 1)),
            "sharpness": self.sharpness * draw(1, 1),
            "vignette": self.vignette * np.abs(draw(1, 1)),
        }
        grey, noise = random.random((2, sets, 1, 1, 1, 1))[:, own]
        drawn["saturation"] = np.where(grey < GREY, 0.0, drawn["saturation"])
        drawn["noise"] = self.noise * noise
        seeds = random.integers(2**62, size=sets)[own]
        change = _uploaded(drawn, images.device)
        if self.sharpness:
            images = images + change["sharpness"] * (images - _blurred(images))
        if self.vignette:
            images = images * (1 - change["vignette"] * _squared_radius(images))
        images = (images * change["gain"]).clamp(0, 1) ** change["gamma"]
        images = 0.5 + (images - 0.5) * change["contrast"]
        images = torch.lerp(images.mean(2, keepdim=True), images, change["saturation"])
        return (images + change["noise"] * _grain(images, seeds)).clamp(0, 1)


def _uploaded(arrays: dict[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Arrays with one row a set, by one copy to the device."""
    sets = len(next(iter(arrays.values())))
    rows = [array.reshape(sets, -1).astype(np.float32) for array in arrays.values()]
    columns = upload(np.concatenate(rows, 1), device).split([row.shape[1] for row in rows], 1)
    named = zip(arrays.items(), columns, strict=True)
    return {name: column.reshape(array.shape) for (name, array), column in named}


def _blurred(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v 3 h w"]:
    """The mean of each pixel and its eight neighbours."""
    padded = F.pad(images.flatten(0, 1), [1] * 4, mode="replicate")
    return F.avg_pool2d(padded, 3, stride=1).view_as(images)


def _squared_radius(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "h w"]:
    """Squared distance from the middle of the image, 1 in its corners."""
    y, x = (torch.linspace(-1, 1, side, device=images.device) for side in images.shape[-2:])
    return (y[:, None].square() + x.square()) / 2


def _grain(images: Float[Tensor, "b v 3 h w"], seeds: np.ndarray) -> Float[Tensor, "b v 3 h w"]:
    """Normal noise, each set's by its seed."""
    generator = torch.Generator(images.device)
    grain = torch.empty_like(images)
    for one, seed in zip(grain, seeds.tolist(), strict=True):
        one.normal_(generator=generator.manual_seed(seed))
    return grain
