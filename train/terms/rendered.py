"""Losses on what is splatted into a view that the network did not see."""

from jaxtyping import Float
from torch import Tensor

from train.losses import masked_mean
from train.terms.step import Step, term


@term
def render(step: Step) -> Float[Tensor, ""]:
    """L1 of the unseen view; nothing in steps that have none, and for sets without a scale."""
    if step.target is None:
        return step.prediction.depth.new_zeros(())
    error = (step.image - step.target.images[:, 0]).abs()
    return masked_mean(error, step.scaled[:, None, None, None].expand_as(error))
