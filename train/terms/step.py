"""One training step as the losses see it, and the table that they are registered in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ffsplat.geometry import invert_rigid, transform_points, unproject
from ffsplat.merge import WorldGaussians
from ffsplat.model import ALL_PIXELS
from ffsplat.prediction import Prediction
from ffsplat.render.splatting import Rasterized
from train.batches import Batch, upload
from train.losses import FeatureNetwork
from train.terms.view import framed_gaussians, unseen


@dataclass(frozen=True, eq=False)
class Step:
    """One training step: what was predicted of the views in `given`, and what is true of them.

    `target` is a view of each set that the network did not see, if the step has one. `pixels` are
    the rows and columns that were scored against the codebook.
    """

    prediction: Prediction
    given: Batch
    number: int
    pixels: tuple[slice, slice] = ALL_PIXELS
    target: Batch | None = None
    class_weights: Mapping[str, Tensor] | None = None
    features: FeatureNetwork | None = None
    """The network of the perceptual loss."""
    dictionary: Float[Tensor, "rows d"] | None = None
    """What each row of level `whole` stands for in the space of the teacher."""
    teacher: str = ""
    """Which of the batch's teachers the rows are learnt from."""

    @cached_property
    def nothing(self) -> Float[Tensor, ""]:
        """A loss of 0."""
        return self.prediction.depth.new_zeros(())

    @property
    def unseen(self) -> Batch:
        """The view kept back; only for steps that have one."""
        assert self.target is not None
        return self.target

    @cached_property
    def mask(self) -> Bool[Tensor, "b v h w"]:
        """Where the depth is known."""
        return self.given.depth > 0

    @cached_property
    def scaled(self) -> Float[Tensor, " b"]:
        """1 for the sets whose depth is known somewhere, so that their scale is, else 0."""
        return self.mask.flatten(1).any(1).float()

    @cached_property
    def mean_depth(self) -> Float[Tensor, " b"]:
        """Mean true z-depth of each set; 1 where none is known."""
        total, count = self.given.depth.sum((1, 2, 3)), self.mask.sum((1, 2, 3))
        return torch.where(count > 0, total / count.clamp(min=1), 1.0)

    @cached_property
    def log_truth(self) -> Float[Tensor, "b v h w"]:
        """Log of the true depth over its mean; 0 where it is unknown."""
        depth = self.given.depth / self.mean_depth[:, None, None, None]
        return torch.where(self.mask, depth, 1.0).log()

    @cached_property
    def log_depth(self) -> Float[Tensor, "b v h w"]:
        """Log of the predicted depth over the predicted scale."""
        return (self.prediction.depth / self.prediction.scale[:, None, None, None]).log()

    @cached_property
    def motion(self) -> tuple[Float[Tensor, "b w 4 4"], Float[Tensor, "b w 4 4"]]:
        """Predicted and true poses of all views but the reference."""
        return self.prediction.world_from_camera[:, 1:], self.given.world_from_camera[:, 1:]

    @cached_property
    def points(self) -> tuple[Float[Tensor, "b v h w 3"], Float[Tensor, "b v h w 3"]]:
        """Predicted and true points in the frame of the reference view."""
        guess, truth = (
            transform_points(
                cameras.world_from_camera,
                unproject(cameras.depth, cameras.intrinsics).flatten(2, 3),
            ).unflatten(2, cameras.depth.shape[2:])
            for cameras in (self.prediction, self.given)
        )
        return guess, truth

    @cached_property
    def gaussians(self) -> WorldGaussians:
        """The Gaussians of all seen views, in the unit of the truth and with its cameras."""
        return framed_gaussians(self.prediction, self.given, self.mean_depth)

    @cached_property
    def view(self) -> Rasterized:
        """Colour, and after it squared depth, of the unseen view, on nothing."""
        gaussians = self.gaussians
        from_world = invert_rigid(self.unseen.world_from_camera[:, 0])
        z = transform_points(from_world, gaussians.means)[..., 2:]
        return unseen(gaussians, torch.cat([gaussians.colors, z.square()], -1), self.unseen)

    @cached_property
    def image(self) -> Float[Tensor, "b 3 h w"]:
        """The unseen view; what no Gaussian covers has the mean colour of the set."""
        background = self.given.images.mean((1, 3, 4))[:, None, None]
        hole = (1 - self.view.opacity[..., None]).clamp(0, 1)
        return (self.view.features[..., :3] + hole * background).movedim(-1, 1)

    def sample(self, size: int, count: int) -> Tensor:
        """At most `count` of `size` indices without repetition, the same at every rank."""
        random = torch.Generator().manual_seed(self.number)
        return upload(torch.randperm(size, generator=random)[:count].numpy(), self.mask.device)


Term = Callable[[Step], Float[Tensor, ""]]
TERMS: dict[str, Term] = {}
"""Every term that a recipe may weigh, by name."""


def term(function: Term) -> Term:
    """Make a function a term under its own name."""
    TERMS[function.__name__] = function
    return function
