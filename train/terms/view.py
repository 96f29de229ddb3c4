"""The view that the network did not see, splatted from the Gaussians of those that it saw."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from ffsplat.merge import WorldGaussians, gaussians_from_prediction
from ffsplat.prediction import Prediction
from ffsplat.render import rasterize_sets
from ffsplat.render.splatting import Rasterized
from train.batches import Batch
from train.novel_view import rescale


def framed_gaussians(
    prediction: Prediction, given: Batch, mean_depth: Float[Tensor, " b"]
) -> WorldGaussians:
    """Gaussians in the unit of the truth, seen with the true cameras.

    True poses keep an early rendering loss from fighting over the frame (YoNoSplat, 2025).
    """
    framed = replace(
        rescale(prediction, mean_depth / prediction.scale),
        world_from_camera=given.world_from_camera,
        intrinsics=given.intrinsics,
    )
    return gaussians_from_prediction(framed)


def unseen(
    gaussians: WorldGaussians, features: Float[Tensor, "b n c"], target: Batch
) -> Rasterized:
    """Features of each set's Gaussians in its target view; the view axis counts the sets."""
    height, width = target.images.shape[-2:]
    cameras = target.world_from_camera[:, 0], target.intrinsics[:, 0]
    return rasterize_sets(*gaussians[:4], features, *cameras, width, height)
