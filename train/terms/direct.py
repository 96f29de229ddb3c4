"""Direct supervision: exact geometry, labels and matches of the views that the network saw.

Lengths are compared in units of the mean depth of a set, so that a set may have any unit; what
needs truth that a set does not have adds nothing.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ffsplat.geometry import pixel_grid, rays, vector_from_rotation
from train import losses
from train.batches import upload
from train.terms.step import Step, term

SAMPLED_CELLS = 256
"""Cells of a view whose matches are learnt in one step, at most."""
SAMPLED_MATCHES = 1536
"""Matches of a set that are learnt in one step, at most: six views make thirty pairs, which would
take a fifth of a step's time."""
SAMPLED_PIXELS = 192
"""Pixels of a set that the instance loss compares with each other."""
CONFIDENCE_ERROR = 0.1
"""Expected error of log depth at which a confidence has fallen to 1 / e."""


@term
def depth(step: Step) -> Float[Tensor, ""]:
    """L1 of log depth."""
    return losses.depth_loss(step.log_depth, step.log_truth, step.mask)


@term
def gradient(step: Step) -> Float[Tensor, ""]:
    """L1 of the gradients of log depth."""
    return losses.gradient_loss(step.log_depth, step.log_truth, step.mask)


@term
def scale_invariant(step: Step) -> Float[Tensor, ""]:
    """Eigen's loss on log depth, one image a set."""
    flat = (step.log_depth.flatten(1, 2), step.log_truth.flatten(1, 2), step.mask.flatten(1, 2))
    return losses.scale_invariant_loss(*flat)


@term
def normal(step: Step) -> Float[Tensor, ""]:
    """Angle between the surface normals of the depth and of its truth."""
    return losses.normal_loss(
        step.prediction.depth, step.prediction.intrinsics, step.given.depth,
        step.given.intrinsics, step.mask,
    )  # fmt: skip


@term
def point(step: Step) -> Float[Tensor, ""]:
    """Distance of the points in the reference view's frame, both at a mean distance of 1."""
    return losses.point_loss(*step.points, step.mask)


@term
def confident_point(step: Step) -> Float[Tensor, ""]:
    """The same as DUSt3R has it, with the confidence that the expected error stands for."""
    confidence = 1 + (-step.prediction.depth_error / CONFIDENCE_ERROR).exp()
    return losses.point_loss(*step.points, step.mask, confidence)


@term
def ray(step: Step) -> Float[Tensor, ""]:
    """Angle between the rays of the pixels in the reference view's frame."""
    guess, truth = (
        directions(cameras.intrinsics, cameras.world_from_camera, step.given.depth)
        for cameras in (step.prediction, step.given)
    )
    return losses.ray_angle_loss(guess, truth, torch.ones_like(step.mask))


def directions(
    intrinsics: Float[Tensor, "b v 3 3"],
    world_from_camera: Float[Tensor, "b v 4 4"],
    like: Float[Tensor, "b v h w"],
) -> Float[Tensor, "b v h w 3"]:
    """The rays of the pixel centres in the world's frame, z-depth 1 away from their camera."""
    height, width = like.shape[-2:]
    grid = pixel_grid(height, width, like).reshape(1, 1, -1, 2).expand(*like.shape[:2], -1, -1)
    turned = rays(grid, intrinsics) @ world_from_camera[..., :3, :3].mT
    return turned.unflatten(2, (height, width))


@term
def error(step: Step) -> Float[Tensor, ""]:
    """Calibration of the expected error of log depth."""
    actual = (step.log_depth - step.log_truth).abs()
    return losses.error_loss(step.prediction.depth_error, actual, step.mask)


@term
def scale(step: Step) -> Float[Tensor, ""]:
    """L1 of the log of the mean depth, where the unit is the metre."""
    known = step.scaled * step.given.metric
    return losses.masked_mean((step.prediction.scale / step.mean_depth).log().abs(), known)


@term
def rotation(step: Step) -> Float[Tensor, ""]:
    """Smooth L1 of the rotation vectors."""
    guess, truth = (vector_from_rotation(poses[..., :3, :3]) for poses in step.motion)
    return losses.pose_loss(guess, truth)


@term
def angle(step: Step) -> Float[Tensor, ""]:
    """Angle of the rotation that is left between the poses."""
    guess, truth = (poses[..., :3, :3] for poses in step.motion)
    return losses.rotation_loss(guess, truth)


@term
def direction(step: Step) -> Float[Tensor, ""]:
    """Angle between the translations, for sets of any unit."""
    guess, truth = (poses[..., :3, 3] for poses in step.motion)
    return losses.direction_loss(guess, truth / step.mean_depth[:, None, None])


@term
def translation(step: Step) -> Float[Tensor, ""]:
    """Smooth L1 of translations over the mean depth; nothing for sets without a scale."""
    guess, truth = (poses[..., :3, 3] for poses in step.motion)
    guess = guess / step.prediction.scale[:, None, None]
    truth = truth / step.mean_depth[:, None, None]
    known = step.scaled[:, None, None]
    return losses.pose_loss(guess * known, truth * known)


@term
def focal(step: Step) -> Float[Tensor, ""]:
    """L1 of the log of the focal length."""
    guess, truth = step.prediction.intrinsics, step.given.intrinsics
    return (guess[..., 0, 0] / truth[..., 0, 0]).log().abs().mean()


@term
def field_of_view(step: Step) -> Float[Tensor, ""]:
    """L1 of the fields of view."""
    height, width = step.mask.shape[-2:]
    guess, truth = step.prediction.intrinsics, step.given.intrinsics
    return losses.field_of_view_loss(guess, truth, height, width)


@term
def whole(step: Step) -> Float[Tensor, ""]:
    """Cross-entropy of the rows of level `whole`."""
    return _code(step, "whole")


@term
def part(step: Step) -> Float[Tensor, ""]:
    """Cross-entropy of the rows of level `part`."""
    return _code(step, "part")


def _code(step: Step, level: str) -> Float[Tensor, ""]:
    labels = getattr(step.given, level)[:, :, *step.pixels]
    logits = getattr(step.prediction, f"{level}_logits")
    weights = step.class_weights[level] if step.class_weights else logits.new_ones(logits.shape[-1])
    return losses.code_loss(logits, labels, weights)


@term
def instance(step: Step) -> Float[Tensor, ""]:
    """Which of some sampled pixels of a set belong to one object."""
    embeddings = step.prediction.instances.flatten(1, 3)
    index = step.sample(embeddings.shape[1], SAMPLED_PIXELS)
    identities = step.given.identity.flatten(1)
    return losses.instance_loss(
        embeddings.index_select(1, index), identities.index_select(1, index)
    )


@term
def match(step: Step) -> Float[Tensor, ""]:
    """Fine matches between all ordered pairs of views."""
    return _match(step, step.prediction.descriptors, to_reference=False)


@term
def token_match(step: Step) -> Float[Tensor, ""]:
    """Coarse matches of every view to the reference."""
    return _match(step, step.prediction.token_descriptors, to_reference=True)


def _match(step: Step, descriptors: Tensor, to_reference: bool) -> Float[Tensor, ""]:
    given = step.given
    # Listed on the CPU: to filter them on a GPU would wait for all that it has to do.
    index = range(given.images.shape[1])
    pairs = [(a, b) for a in index for b in index if a != b and (b == 0 or not to_reference)]
    source, target = upload(np.array(pairs), descriptors.device).T
    stride = given.images.shape[-1] // descriptors.shape[-2]
    places, visible = losses.correspondences(
        given.depth, given.intrinsics, given.world_from_camera, source, target, stride
    )
    cells = step.sample(places.shape[2], min(SAMPLED_CELLS, SAMPLED_MATCHES // len(pairs)))
    return losses.match_loss(
        descriptors, places[:, :, cells], visible[:, :, cells], source, target, stride, cells
    )
