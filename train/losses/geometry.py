"""Depth, its error, points, surfaces and cameras: direct supervision by exact geometry."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ffsplat.geometry import focal_lengths, image_size, rotation_angle, unproject
from train.losses.masks import masked_mean


def depth_loss(
    log_depth: Float[Tensor, "b v h w"],
    log_truth: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, ""]:
    """L1 of log depth."""
    return masked_mean((log_depth - log_truth).abs(), mask)


def gradient_loss(
    log_depth: Float[Tensor, "b v h w"],
    log_truth: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, ""]:
    """L1 between the image gradients of log depth, at strides 1 and 4.

    Source: Li & Snavely, "MegaDepth", 2018, equation 3 (multi-scale gradient matching).
    """
    error = log_depth - log_truth
    total = error.new_zeros(())
    for stride in (1, 4):
        for axis in (-1, -2):
            size = error.shape[axis] - stride
            step = error.narrow(axis, stride, size) - error.narrow(axis, 0, size)
            both = mask.narrow(axis, stride, size) & mask.narrow(axis, 0, size)
            total = total + masked_mean(step.abs(), both)
    return total / 4


def error_loss(
    expected: Float[Tensor, "b v h w"],
    actual: Float[Tensor, "b v h w"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, ""]:
    """Negative log-likelihood of a Laplace error: at its minimum `expected` is the mean error.

    `actual` is the absolute error of log depth and gets no gradient, so calibrating does not
    soften the depth. Source: Kendall & Gal, 2017, equation 8, with the Laplace density.
    """
    return masked_mean(actual.detach() / expected + expected.log(), mask)


def pose_loss(predicted: Float[Tensor, "*s 3"], truth: Float[Tensor, "*s 3"]) -> Float[Tensor, ""]:
    """Smooth L1 of rotation vectors in radians, or of translations over the mean depth."""
    return F.smooth_l1_loss(predicted, truth, beta=0.05)


def scale_invariant_loss(
    log_depth: Float[Tensor, "*s h w"],
    log_truth: Float[Tensor, "*s h w"],
    mask: Bool[Tensor, "*s h w"],
    balance: float = 0.5,
) -> Float[Tensor, ""]:
    """Mean d^2 - balance (mean d)^2 of d = log_depth - log_truth: the mean over images.

    A `balance` of 0 is the squared error, 1 ignores the scale of an image. Views that share a scale
    stand under each other in one image. Source: Eigen et al., "Depth Map Prediction from a Single
    Image", 2014, equation 4.
    """
    error = torch.where(mask, log_depth - log_truth, 0.0)
    loss = _image_mean(error.square(), mask) - balance * _image_mean(error, mask).square()
    return masked_mean(loss, mask.flatten(-2).any(-1))


def scale_shift_loss(
    inverse_depth: Float[Tensor, "*s h w"],
    inverse_truth: Float[Tensor, "*s h w"],
    mask: Bool[Tensor, "*s h w"],
) -> Float[Tensor, ""]:
    """Half the mean squared error that is left by the best scale and shift of each image.

    Both in any unit; the loss has that of the truth, squared. A constant image keeps only its
    shift. Source: Ranftl et al., "Towards Robust Monocular Depth Estimation", 2020 (MiDaS), its
    loss ssimse.
    """

    def centred(values: Tensor) -> Tensor:
        values = torch.where(mask, values, 0.0)
        return torch.where(mask, values - _image_mean(values, mask)[..., None, None], 0.0)

    guess, truth = centred(inverse_depth), centred(inverse_truth)
    variance = guess.square().sum((-2, -1), keepdim=True)
    slope = (guess * truth).sum((-2, -1), keepdim=True) / variance.clamp(min=1e-12)
    loss = _image_mean((slope * guess - truth).square(), mask) / 2
    return masked_mean(loss, mask.flatten(-2).any(-1))


def trimmed_scale_shift_loss(
    inverse_depth: Float[Tensor, "*s h w"],
    inverse_truth: Float[Tensor, "*s h w"],
    mask: Bool[Tensor, "*s h w"],
    trim: float = 0.2,
) -> Float[Tensor, ""]:
    """Half the mean absolute error of standardised images, without the largest share `trim`.

    Standardised is (x - median) / mean |x - median| over the known pixels of an image. What is
    trimmed still counts in the divisor. Source: Ranftl et al., 2020 (MiDaS), its loss ssitrim.
    """
    difference = _standardised(inverse_depth, mask) - _standardised(inverse_truth, mask)
    error = torch.where(mask, difference.abs(), torch.inf).flatten(-2).sort(-1).values
    count = mask.flatten(-2).sum(-1)
    kept = ((1 - trim) * count).floor()
    rank = torch.arange(error.shape[-1], device=error.device)
    total = torch.where(rank < kept[..., None], error, 0.0).sum(-1)
    return masked_mean(total / (2 * count.clamp(min=1)), count > 0)


def _standardised(
    values: Float[Tensor, "*s h w"], mask: Bool[Tensor, "*s h w"]
) -> Float[Tensor, "*s h w"]:
    median = torch.where(mask, values, torch.nan).flatten(-2).nanmedian(-1).values
    centred = torch.where(mask, values - median[..., None, None], 0.0)
    deviation = _image_mean(centred.abs(), mask).clamp(min=1e-6)
    return centred / deviation[..., None, None]


def _image_mean(
    values: Float[Tensor, "*s h w"], mask: Bool[Tensor, "*s h w"]
) -> Float[Tensor, "*s"]:
    """Mean over the masked pixels of each image; 0 for an image without any."""
    return torch.where(mask, values, 0.0).sum((-2, -1)) / mask.sum((-2, -1)).clamp(min=1)


def point_error(
    points: Float[Tensor, "b v h w 3"],
    truth: Float[Tensor, "b v h w 3"],
    mask: Bool[Tensor, "b v h w"],
) -> Float[Tensor, "b v h w"]:
    """Distance of each point from the true one, both point maps at a mean distance of 1.

    Points are in the frame of the reference view, whose camera the distances of all masked points
    of a set are measured from; so the unit of neither matters. 0 outside the mask. Source: Wang et
    al., "DUSt3R", 2024, equations 2 and 3.
    """

    def normalised(values: Tensor) -> Tensor:
        values = torch.where(mask[..., None], values, 0.0)
        mean = values.norm(dim=-1).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)
        return values / mean.clamp(min=1e-8)[:, None, None, None, None]

    return (normalised(points) - normalised(truth)).norm(dim=-1)


def point_loss(
    points: Float[Tensor, "b v h w 3"],
    truth: Float[Tensor, "b v h w 3"],
    mask: Bool[Tensor, "b v h w"],
    confidence: Float[Tensor, "b v h w"] | None = None,
    alpha: float = 0.2,
) -> Float[Tensor, ""]:
    """Mean `point_error`, weighted as in `confidence_loss` where there is a confidence."""
    error = point_error(points, truth, mask)
    if confidence is None:
        return masked_mean(error, mask)
    return confidence_loss(error, confidence, mask, alpha)


def confidence_loss(
    error: Float[Tensor, "*s"],
    confidence: Float[Tensor, "*s"],
    mask: Bool[Tensor, "*s"],
    alpha: float = 0.2,
) -> Float[Tensor, ""]:
    """Mean of confidence * error - alpha log(confidence): least at confidence = alpha / error.

    Confidences are over 0; those of DUSt3R, 1 + exp(x), are over 1. The error is learnt too, and
    the more the surer the network is. Source: DUSt3R, 2024, equation 4, which sums over pixels
    where its code takes the mean.
    """
    return masked_mean(confidence * error - alpha * confidence.log(), mask)


def rotation_loss(
    rotation: Float[Tensor, "*s 3 3"], truth: Float[Tensor, "*s 3 3"]
) -> Float[Tensor, ""]:
    """Mean angle between two rotations, in radians: their distance along the group.

    Source: Huynh, "Metrics for 3D Rotations", 2009, the sixth metric.
    """
    return rotation_angle(rotation.mT @ truth).mean()


def direction_loss(
    translation: Float[Tensor, "*s 3"], truth: Float[Tensor, "*s 3"], least: float = 1e-3
) -> Float[Tensor, ""]:
    """Mean angle between translations, in radians, for sets without a scale.

    True ones shorter than `least`, in the unit of `truth`, have no direction and do not count.
    """
    return masked_mean(_angle(translation, truth), truth.norm(dim=-1) > least)


def ray_loss(
    rays: Float[Tensor, "*s c"], truth: Float[Tensor, "*s c"], mask: Bool[Tensor, "*s"]
) -> Float[Tensor, ""]:
    """L1 of ray maps: directions R K^-1 p (c = 3), or camera centres before these (c = 6).

    Directions are not of unit length: a z-depth times one is a point. Lengths are in units of the
    set's mean distance. Source: Lin et al., "Depth Anything 3", 2025, section 3, the ray map and
    its loss.
    """
    return masked_mean((rays - truth).abs().mean(-1), mask)


def ray_angle_loss(
    directions: Float[Tensor, "*s 3"], truth: Float[Tensor, "*s 3"], mask: Bool[Tensor, "*s"]
) -> Float[Tensor, ""]:
    """Mean angle between rays, in radians; directions are of any length but 0."""
    return masked_mean(_angle(directions, truth), mask)


def _angle(a: Float[Tensor, "*s 3"], b: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s"]:
    """Angle between vectors in [0, pi]; a right one where one is 0.

    Two half-chords: exact also where the cosine is flat (Kahan, "How Futile are Mindless
    Assessments of Roundoff", 2006, section 12).
    """
    a, b = F.normalize(a, dim=-1, eps=1e-6), F.normalize(b, dim=-1, eps=1e-6)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def focal_length_loss(
    intrinsics: Float[Tensor, "*s 3 3"], truth: Float[Tensor, "*s 3 3"]
) -> Float[Tensor, ""]:
    """L1 of the logs of both focal lengths: a relative error, whatever the image size."""
    guess, right = (focal_lengths(matrix) for matrix in (intrinsics, truth))
    return (guess / right).log().abs().mean()


def field_of_view_loss(
    intrinsics: Float[Tensor, "*s 3 3"],
    truth: Float[Tensor, "*s 3 3"],
    height: int,
    width: int,
) -> Float[Tensor, ""]:
    """L1 of the horizontal and vertical fields of view, in radians.

    Of an image of `height` x `width` pixels with the principal point in its middle. Source: Wang
    et al., "VGGT", 2025, which describes a camera by its fields of view.
    """
    half = image_size(height, width, truth.device) / 2
    guess, right = (2 * torch.atan(half / focal_lengths(matrix)) for matrix in (intrinsics, truth))
    return (guess - right).abs().mean()


def normals(
    depth: Float[Tensor, "*b h w"], intrinsics: Float[Tensor, "*b 3 3"]
) -> Float[Tensor, "*b inner_h inner_w 3"]:
    """Unit surface normals of a z-depth map, towards the camera, without the outermost pixels.

    The cross product of central differences of the lifted points, which is exact on planes
    (Huang et al., "2D Gaussian Splatting", 2024, equation 15).
    """
    points = unproject(depth, intrinsics)
    across = points[..., 1:-1, 2:, :] - points[..., 1:-1, :-2, :]
    down = points[..., 2:, 1:-1, :] - points[..., :-2, 1:-1, :]
    return F.normalize(torch.cross(down, across, dim=-1), dim=-1)


def normal_loss(
    depth: Float[Tensor, "*b h w"],
    intrinsics: Float[Tensor, "*b 3 3"],
    truth: Float[Tensor, "*b h w"],
    true_intrinsics: Float[Tensor, "*b 3 3"],
    mask: Bool[Tensor, "*b h w"],
) -> Float[Tensor, ""]:
    """Mean angle between the normals of depth and of its truth, in radians; units do not matter.

    Pixels count whose four neighbours are known too. Source: Wang et al., "MoGe", 2025, its
    normal loss.
    """
    truth = torch.where(mask, truth, 1.0)
    known = mask[..., 1:-1, 1:-1] & mask[..., 1:-1, 2:] & mask[..., 1:-1, :-2]
    known = known & mask[..., 2:, 1:-1] & mask[..., :-2, 1:-1]
    angle = _angle(normals(depth, intrinsics), normals(truth, true_intrinsics))
    return masked_mean(angle, known)
