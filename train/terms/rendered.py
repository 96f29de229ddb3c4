"""Losses on what is splatted into a view that the network did not see."""

from jaxtyping import Float
from torch import Tensor

from train.terms.step import Step, term


@term
def render(step: Step) -> Float[Tensor, ""]:
    """L1 of the unseen view; nothing in steps that have none."""
    if step.target is None:
        return step.prediction.depth.new_zeros(())
    return (step.image - step.target.images[:, 0]).abs().mean()
