"""Views that the network was not given, beside what other answers make of them."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ffsplat.geometric import geometric_gaussians
from ffsplat.geometry import invert_rigid
from ffsplat.merge import WorldGaussians, gaussians_from_prediction
from ffsplat.model import FFSplat
from ffsplat.prediction import Prediction
from ffsplat.render import render
from ffsplat.types import Scene
from train import metrics
from train.batches import Batch
from train.evaluation import baselines
from train.evaluation.clips import cameras_of, set_unit
from train.evaluation.geometry import alignment
from train.evaluation.tally import Tally
from train.losses import FeatureNetwork, feature_distance, ssim
from train.losses.photometric import WINDOW
from train.novel_view import rescale, splat

Images = Float[Tensor, "n 3 h w"]


def predicted_images(
    prediction: Prediction, refined: Prediction, scene: Scene, given: Batch, others: Batch
) -> dict[str, Images]:
    """The other views of one set, splatted from what was predicted of the given ones.

    Cameras are the true ones in the frame of view 0, the scale is that of `alignment`; where
    nothing is, there is the mean colour of the given views. `scene` is what `infer` would save.
    """
    background = given.images.mean((1, 3, 4))
    aligned, regressed = (rescale(said, alignment(said, given)) for said in (refined, prediction))
    sources = {
        "network": gaussians_from_prediction(aligned),
        "regressed cameras": gaussians_from_prediction(regressed),
        "geometric Gaussians": without_head(aligned, given),
    }
    images = {
        name: _splat(gaussians, others.world_from_camera, others, background)
        for name, gaussians in sources.items()
    }
    saved = render(scene, cameras_of(others), background=background[0].tolist())
    images["saved scene"] = torch.from_numpy(saved).movedim(-1, 1).to(given.images)
    return images


def without_head(prediction: Prediction, given: Batch) -> WorldGaussians:
    """What the depth and cameras of a prediction give without its Gaussian head."""
    shaped = geometric_gaussians(
        prediction.depth, prediction.depth_error, prediction.intrinsics, given.images.movedim(2, -1)
    )
    return gaussians_from_prediction(replace(prediction, **shaped))


def images_beside(network: FFSplat, given: Batch, others: Batch) -> dict[str, Images]:
    """The other views of one set as others see them: trivial answers, ceilings, fewer views."""
    background = given.images.mean((1, 3, 4))
    nearest = nearest_views(given, others)
    images = {
        "nearest view": given.images[0, nearest],
        "mean colour": background[:, :, None, None].expand_as(others.images[0]),
    }
    if bool((given.depth > 0).any(dim=(0, 2, 3)).all()):
        exact = baselines.exact_gaussians(given)
        images["exact geometry"] = _splat(exact, others.world_from_camera, others, background)
        images["nearer view alone"] = _from_one_view(network, given, others, nearest, background)
    return images


def nearest_views(given: Batch, others: Batch) -> list[int]:
    """The given view that is nearest to each of the others of one set."""
    unit = set_unit(given)
    targets = others.world_from_camera.unbind(1)
    return [
        int(baselines.nearest_view(given.world_from_camera, target, unit)) for target in targets
    ]


def compare(
    tally: Tally, images: Mapping[str, Images], truth: Images, features: FeatureNetwork | None
) -> None:
    """Add how like the truth the images are that somebody made of it.

    `features` is the network behind LPIPS, if there is one; its channels all weigh 1.
    """
    for name, made in images.items():
        made = made.clamp(0, 1)
        tally.add("psnr", {name: metrics.psnr(made, truth)})
        if min(truth.shape[-2:]) >= WINDOW:
            tally.add("ssim", {name: ssim(made, truth)})
        if features is not None:
            tally.add("lpips", {name: feature_distance(features(made), features(truth))})
    if "nearer view alone" in images:
        few, all_views = (
            metrics.psnr(images[name], truth) for name in ("nearer view alone", "network")
        )
        tally.add("gain", {"network": all_views - few, "nearer view alone": torch.zeros_like(few)})


def _from_one_view(
    network: FFSplat, given: Batch, others: Batch, nearest: list[int], background: Tensor
) -> Images:
    """What the network makes of each of the other views when it is given the nearest view alone.

    That view is then the reference, so only its depth is at fault, never a camera.
    """
    images = []
    for index, view in enumerate(nearest):
        alone, target = (
            batch.views(slice(i, i + 1)) for batch, i in ((given, view), (others, index))
        )
        prediction = network(alone.images)
        gaussians = gaussians_from_prediction(rescale(prediction, alignment(prediction, alone)))
        camera = invert_rigid(alone.world_from_camera) @ target.world_from_camera
        images.append(_splat(gaussians, camera, target, background))
    return torch.cat(images)


def _splat(
    gaussians: WorldGaussians, poses: Float[Tensor, "1 n 4 4"], target: Batch, background: Tensor
) -> Images:
    size = (target.images.shape[-2], target.images.shape[-1])
    views = zip(poses.unbind(1), target.intrinsics.unbind(1), strict=True)
    return torch.cat([splat(gaussians, *camera, size, background) for camera in views])
