"""A view that the network was not given: splat what it predicted from the others."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ffsplat.merge import WorldGaussians
from ffsplat.prediction import Prediction
from ffsplat.render import rasterize


def rescale(prediction: Prediction, factor: Float[Tensor, " b"]) -> Prediction:
    """The same prediction in another unit of length: everything `factor` times as large."""
    image = factor[:, None, None, None]
    poses = prediction.world_from_camera.clone()
    poses[..., :3, 3] *= factor[:, None, None]
    return replace(
        prediction,
        depth=prediction.depth * image,
        scale=prediction.scale * factor,
        world_from_camera=poses,
        scales=prediction.scales * image[..., None],
    )


def splat(
    gaussians: WorldGaussians,
    world_from_camera: Float[Tensor, "b 4 4"],
    intrinsics: Float[Tensor, "b 3 3"],
    size: tuple[int, int],
    background: Float[Tensor, "b 3"],
) -> Float[Tensor, "b 3 h w"]:
    """One image (h, w) of each set of Gaussians; what they leave uncovered is `background`."""
    images = []
    for index, (means, quaternions, scales, opacities, colors) in enumerate(
        zip(*gaussians, strict=True)
    ):
        view = rasterize(
            means, quaternions, scales, opacities, colors,
            world_from_camera[index, None], intrinsics[index, None], size[1], size[0],
        )  # fmt: skip
        hole = (1 - view.opacity[..., None]).clamp(0, 1)
        images.append((view.features + hole * background[index])[0])
    return torch.stack(images).movedim(-1, 1)
