"""Losses on what is splatted into a view that the network did not see.

In steps without such a view all of them are 0, as they are for sets without a scale.
"""

from functools import wraps

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data.clip import UNKNOWN
from train import losses
from train.terms.step import Step, Term, term
from train.terms.view import unseen

COVERED = 0.5
"""Opacity from which on a pixel shows something."""


def view_term(function: Term) -> Term:
    """A term that is 0 in steps without an unseen view."""

    @wraps(function)
    def guarded(step: Step) -> Float[Tensor, ""]:
        return step.nothing if step.target is None else function(step)

    return term(guarded)


def _truth(step: Step) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, "b h w"]]:
    """The unseen photo, and where its pixels count."""
    photo = step.unseen.images[:, 0]
    return photo, (step.scaled > 0)[:, None, None].expand(-1, *photo.shape[-2:])


@view_term
def render(step: Step) -> Float[Tensor, ""]:
    """L1 of the unseen view."""
    photo, mask = _truth(step)
    return losses.l1_loss(step.image, photo, mask)


@view_term
def render_mse(step: Step) -> Float[Tensor, ""]:
    """Mean squared error of the unseen view."""
    photo, mask = _truth(step)
    return losses.mse_loss(step.image, photo, mask)


@view_term
def render_ssim(step: Step) -> Float[Tensor, ""]:
    """1 - structural similarity of the unseen view."""
    photo, mask = _truth(step)
    # Where there is no scale both are the same, which costs nothing.
    return losses.ssim_loss(torch.where(mask[:, None], step.image, photo), photo)


@view_term
def render_perceptual(step: Step) -> Float[Tensor, ""]:
    """Distance of the unseen view to a feature network, which the recipe names."""
    photo, mask = _truth(step)
    assert step.features is not None  # the module sees to it
    return losses.perceptual_loss(
        torch.where(mask[:, None], step.image, photo), photo, step.features
    )


@view_term
def render_depth(step: Step) -> Float[Tensor, ""]:
    """L1 of the log of the unseen view's depth, where it is known and something covers it."""
    truth, depth = step.unseen.depth[:, 0], step.view.depth
    mask = (truth > 0) & (step.view.opacity > COVERED) & (step.scaled > 0)[:, None, None]
    ratio = torch.where(mask, depth, 1.0) / torch.where(mask, truth, 1.0)
    return losses.masked_mean(ratio.log().abs(), mask)


@view_term
def render_code(step: Step) -> Float[Tensor, ""]:
    """Cross-entropy of the codes that are splatted into the unseen view; needs a code a pixel."""
    chance = step.prediction.whole_logits.softmax(-1).flatten(1, 3)
    gaussians, meaning = step.gaussians, step.prediction.meaning_opacities
    if meaning is not None:  # what things are has an opacity of its own
        gaussians = gaussians._replace(opacities=meaning.flatten(1, 3))
    view = unseen(gaussians, chance, step.unseen)
    labels = step.unseen.whole[:, 0]
    known = (labels != UNKNOWN) & (view.opacity > COVERED) & (step.scaled > 0)[:, None, None]
    share = view.features.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return losses.masked_mean(
        -(share / view.opacity.clamp(min=COVERED)).clamp(min=1e-4).log(), known
    )


@view_term
def distortion(step: Step) -> Float[Tensor, ""]:
    """Spread of depth along the rays of the unseen view, in units of the mean depth, squared."""
    unit = step.mean_depth[:, None, None]
    opacity, depth = step.view.opacity, step.view.depth / unit
    squared = step.view.features[..., 3] / unit.square()
    return losses.splatted_distortion_loss(opacity, opacity * depth, squared)


@term
def opacity(step: Step) -> Float[Tensor, ""]:
    """Mean opacity of the Gaussians."""
    return losses.opacity_loss(step.prediction.opacities)


@term
def opacity_entropy(step: Step) -> Float[Tensor, ""]:
    """Entropy of the opacities."""
    return losses.opacity_entropy_loss(step.prediction.opacities)


@term
def size(step: Step) -> Float[Tensor, ""]:
    """Mean scale of the Gaussians in units of the set's scale."""
    return losses.scale_loss(
        step.prediction.scales / step.prediction.scale[:, None, None, None, None]
    )


@term
def flatness(step: Step) -> Float[Tensor, ""]:
    """Mean of the smallest scale of the Gaussians in units of the set's scale."""
    unit = step.prediction.scale[:, None, None, None, None]
    return losses.flatness_loss(step.prediction.scales / unit)
