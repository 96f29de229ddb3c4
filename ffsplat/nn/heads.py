"""What is read off the features: cameras from tokens; depth, Gaussians and meaning from pixels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ffsplat.config import ModelConfig

FOCAL_PRIOR = 0.9
"""Focal length over the image's longer side where the network says nothing: 58 degrees."""
SCALE_PRIOR = 2.5
"""Mean depth in metres where the network says nothing."""
FOOTPRINT_PRIOR = 0.5
"""Standard deviation of a Gaussian where the network says nothing, in pixels at its depth."""
OPACITY_PRIOR = 2.2
"""Logit of an opacity where the network says nothing: 90 %."""
ERROR_PRIOR = 0.2
"""Expected error of log depth where the network says nothing."""


def start_at(std: float, *shape: int) -> nn.Parameter:
    """A parameter of random values with mean 0 and this standard deviation.

    They are uniform: to draw normal ones on the meta device, where checkpoints are measured, torch
    loads its compiler, which takes longer than all the rest of loading.
    """
    return nn.Parameter(nn.init.uniform_(torch.empty(shape), -(3**0.5) * std, 3**0.5 * std))


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    last.weight = start_at(1e-3, outputs, hidden)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.GELU(), last)


class CameraHead(nn.Module):
    """Pose relative to the reference view, focal length and scale, from camera tokens."""

    def __init__(self, width: int):
        super().__init__()
        self.pose = _perceptron(2 * width, width, 7)
        self.scale = _perceptron(width, width, 1)

    def forward(
        self, tokens: Float[Tensor, "b v c"]
    ) -> tuple[
        Float[Tensor, "b v 3"], Float[Tensor, "b v 3"], Float[Tensor, "b v"], Float[Tensor, " b"]
    ]:
        """Read the cameras of b sets.

        Returns rotation vectors (radians), translations over the scale, focal lengths over the
        longer side, and the scale (mean depth of a set).
        """
        raw = self.pose(torch.cat([tokens, tokens[:, :1].expand_as(tokens)], dim=-1)).float()
        # The reference view is the world: its pose is the identity by definition.
        moving = (torch.arange(tokens.shape[1], device=tokens.device) > 0)[:, None]
        focal = FOCAL_PRIOR * raw[..., 6].clamp(-2, 2).exp()
        scale = SCALE_PRIOR * self.scale(tokens[:, 0]).float()[:, 0].clamp(-4, 4).exp()
        return raw[..., :3] * moving, raw[..., 3:6] * moving, focal, scale


class PixelHead(nn.Module):
    """Raw outputs of every pixel by one linear map of the decoder's last features."""

    def __init__(self, width: int, config: ModelConfig):
        super().__init__()
        self.sizes = {
            "depth": 1, "error": 1, "offset": 2, "scale": 3, "rotation": 4, "opacity": 1,
            "color": 3, "instance": config.instance_width, "code": config.code_width,
        }  # fmt: skip
        if config.meaning_opacity:
            self.sizes["meaning_opacity"] = 1
        self.linear = nn.Linear(width, sum(self.sizes.values()))
        self.linear.weight = start_at(0.02, *self.linear.weight.shape)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, features: Float[Tensor, "b v h w c"], placed: int = 0
    ) -> dict[str, Float[Tensor, "b _ h w _"]]:
        """The outputs by name; of the first `placed` views only depth and its error."""
        parts = self.linear(features[:, placed:]).float().split(list(self.sizes.values()), dim=-1)
        raw = dict(zip(self.sizes, parts, strict=True))
        if placed:
            weight, bias = self.linear.weight[:2], self.linear.bias[:2]
            before = F.linear(features[:, :placed], weight, bias).float().split(1, dim=-1)
            for name, values in zip(("depth", "error"), before, strict=True):
                raw[name] = torch.cat([values, raw[name]], dim=1)
        return raw


class CodeHead(nn.Module):
    """Logits over codebook rows: a pixel's query against one key a row.

    Comparing in a few channels avoids a convolution as wide as the codebook.
    """

    def __init__(self, width: int, rows: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.keys = start_at(width**-0.5, rows, width)
        self.bias = nn.Parameter(torch.zeros(rows))

    def forward(self, code: Float[Tensor, "*b c"]) -> Float[Tensor, "*b rows"]:
        """Unnormalised log-probabilities of the rows of one level."""
        return F.linear(self.query(code), self.keys, self.bias)


def activate_gaussians(
    raw: dict[str, Tensor], footprint: Float[Tensor, "*b"], pixels: Float[Tensor, "*b 3"]
) -> dict[str, Tensor]:
    """Gaussian parameters of Prediction from raw outputs.

    `footprint` is the side of a pixel at the predicted depth; `pixels` the image's own colours.
    An opacity for meaning is there if `raw` has it: glass hides nothing and yet is something.
    Source: Peng et al., "3D Vision-Language Gaussian Splatting", 2025, equation 4.
    """
    identity = (torch.arange(4, device=footprint.device) == 0).float()  # (1, 0, 0, 0)
    activated = {
        "offsets": 0.5 * raw["offset"].tanh(),
        "scales": FOOTPRINT_PRIOR * footprint[..., None] * raw["scale"].clamp(-3, 3).exp(),
        "quaternions_wxyz": F.normalize(raw["rotation"] + identity, dim=-1),
        "opacities": _opacity(raw["opacity"]),
        "colors": pixels + 0.1 * raw["color"].tanh(),
    }
    if "meaning_opacity" in raw:
        activated["meaning_opacities"] = _opacity(raw["meaning_opacity"])
    return activated


def _opacity(logit: Float[Tensor, "*b 1"]) -> Float[Tensor, "*b"]:
    return torch.sigmoid(logit[..., 0] + OPACITY_PRIOR)
