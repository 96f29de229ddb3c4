"""What is rendered: images, and the Gaussians that lie along their rays.

Images are sRGB in [0, 1], at views that the network saw as well as at others.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from train.losses.masks import masked_mean

WINDOW = 11
"""Width of the window of SSIM in pixels."""
SIGMA = 1.5
"""Standard deviation of that window in pixels."""


def l1_loss(
    image: Float[Tensor, "*b c h w"],
    truth: Float[Tensor, "*b c h w"],
    mask: Bool[Tensor, "*b h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean absolute difference of images, over the masked pixels if there is a mask."""
    return _pixel_mean((image - truth).abs(), mask)


def mse_loss(
    image: Float[Tensor, "*b c h w"],
    truth: Float[Tensor, "*b c h w"],
    mask: Bool[Tensor, "*b h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared difference of images, over the masked pixels if there is a mask."""
    return _pixel_mean((image - truth).square(), mask)


def _pixel_mean(
    values: Float[Tensor, "*b c h w"], mask: Bool[Tensor, "*b h w"] | None
) -> Float[Tensor, ""]:
    values = values.mean(-3)
    return masked_mean(values, torch.ones_like(values) if mask is None else mask)


def ssim(image: Float[Tensor, "*b c h w"], truth: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b"]:
    """Structural similarity of each image, at most 1: the mean over channels and windows.

    A Gaussian window of 11 x 11 pixels at all places where it lies inside the image; 3DGS and its
    kin let it hang over the border, on zeros. Raises ValueError for images smaller than the window.
    Source: Wang et al., "Image Quality Assessment", 2004, equations 13 to 17.
    """
    if min(image.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of {WINDOW} pixels or more, not {image.shape[-2:]}")
    offsets = torch.arange(WINDOW, dtype=image.dtype, device=image.device) - WINDOW // 2
    window = (-0.5 * (offsets / SIGMA).square()).softmax(0)

    def local_mean(values: Tensor) -> Tensor:
        flat = values.flatten(0, -3)[:, None]
        blurred = F.conv2d(F.conv2d(flat, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))
        return blurred[:, 0].unflatten(0, values.shape[:-2])

    mean, other = local_mean(image), local_mean(truth)
    variance = local_mean(image.square()) - mean.square()
    other_variance = local_mean(truth.square()) - other.square()
    covariance = local_mean(image * truth) - mean * other
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean * other + c1) / (mean.square() + other.square() + c1)
    structure = (2 * covariance + c2) / (variance + other_variance + c2)
    return (luminance * structure).mean((-3, -2, -1))


def ssim_loss(
    image: Float[Tensor, "*b c h w"], truth: Float[Tensor, "*b c h w"]
) -> Float[Tensor, ""]:
    """Mean of 1 - `ssim`. 3DGS (Kerbl et al., 2023) adds 0.2 of it to 0.8 of the L1 loss."""
    return (1 - ssim(image, truth)).mean()


def distortion_loss(
    weights: Float[Tensor, "*rays n"],
    depths: Float[Tensor, "*rays n"],
    widths: Float[Tensor, "*rays n"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over rays of sum_ij w_i w_j |z_i - z_j|: what a ray meets should lie together.

    With `widths` of the intervals around the depths also + sum_i w_i^2 width_i / 3, their extent.
    After sorting, one pass instead of all pairs (Sun et al., "Improved Direct Voxel Grid
    Optimization", 2022). Sources: Barron et al., "Mip-NeRF 360", 2022, equation 15, with widths;
    Huang et al., "2D Gaussian Splatting", 2024, equation 13, without.
    """
    depths, order = depths.sort(-1)
    weights = weights.gather(-1, order)
    moments = weights * depths
    # Sums over what lies before each sample.
    before = weights.cumsum(-1) - weights
    moment_before = moments.cumsum(-1) - moments
    loss = 2 * (moments * before - weights * moment_before).sum(-1)
    if widths is not None:
        loss = loss + (weights.square() * widths.gather(-1, order)).sum(-1) / 3
    return masked_mean(loss, torch.ones_like(loss))


def splatted_distortion_loss(
    opacity: Float[Tensor, "*s"], depth: Float[Tensor, "*s"], squared_depth: Float[Tensor, "*s"]
) -> Float[Tensor, ""]:
    """Mean over pixels of sum_{i<j} w_i w_j (z_i - z_j)^2, from what a renderer blends.

    The arguments are sum w, sum w z and sum w z^2, so no list of a ray's Gaussians is needed.
    Source: 2D Gaussian Splatting, 2024, whose code and appendix square the difference that
    equation 13 prints.
    """
    loss = opacity * squared_depth - depth.square()
    return masked_mean(loss, torch.ones_like(loss))


def opacity_loss(opacities: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Mean opacity: Gaussians that an image does not need fade.

    Sources: Ziwen et al., "Long-LRM", 2024, and Kheradmand et al., "3D Gaussian Splatting as Markov
    Chain Monte Carlo", 2024, their opacity regularisers.
    """
    return masked_mean(opacities, torch.ones_like(opacities))


def opacity_entropy_loss(opacities: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Mean entropy of opacities, in nats: a Gaussian should be there or not.

    Flat within 1e-4 of 0 and 1, where its slope would be infinite. Source: Guédon & Lepetit,
    "SuGaR", 2024, the entropy loss on opacities.
    """
    inside = opacities.clamp(1e-4, 1 - 1e-4)
    entropy = torch.special.entr(inside) + torch.special.entr(1 - inside)
    return masked_mean(entropy, torch.ones_like(entropy))


def scale_loss(scales: Float[Tensor, "*s 3"]) -> Float[Tensor, ""]:
    """Mean scale, in the unit of the scales.

    Source: Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo", 2024, the scale
    regulariser.
    """
    return masked_mean(scales, torch.ones_like(scales))


def scale_range_loss(scales: Float[Tensor, "*s 3"], least: float, most: float) -> Float[Tensor, ""]:
    """Mean distance of the logs of scales from the range [least, most]; 0 inside.

    Source: Szymanowicz et al., "Splatter Image", 2024, which holds scales in a range by two terms
    of its code: the mean of those above and of -log of those below, with a jump at the limits that
    this form does not have.
    """
    log = scales.log()
    outside = F.relu(log - torch.log(log.new_tensor(most)))
    outside = outside + F.relu(torch.log(log.new_tensor(least)) - log)
    return masked_mean(outside, torch.ones_like(outside))
