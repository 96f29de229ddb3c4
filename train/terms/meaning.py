"""Losses on what things are beyond labels: teachers, agreement of views, objects, smoothness."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data.clip import UNKNOWN
from ffsplat.geometry import image_size
from train import losses
from train.terms.direct import SAMPLED_PIXELS
from train.terms.step import Step, term

NEIGHBOURS = 5
"""Nearest Gaussians that one is compared with."""
CODES = 4
"""Rows that a code keeps."""


def _taught(step: Step) -> tuple[Float[Tensor, "n rows"], Float[Tensor, "n d"], Tensor]:
    """Codes at the cells of the teacher, its features there, and the dictionary.

    Codes are averaged over a cell before they are looked up: both steps are linear, so this costs
    least.
    """
    assert step.dictionary is not None  # the module sees to it
    teacher = step.given.teachers[step.teacher].flatten(0, 1)
    weights = losses.sparse_weights(step.prediction.whole_logits.flatten(0, 1), CODES)
    cells = F.adaptive_avg_pool2d(weights.movedim(-1, 1), (teacher.shape[-2], teacher.shape[-1]))
    return (
        cells.movedim(1, -1).flatten(0, -2),
        teacher.movedim(1, -1).flatten(0, -2),
        step.dictionary,
    )


@term
def teacher_cosine(step: Step) -> Float[Tensor, ""]:
    """1 - cosine between coded features and the teacher's."""
    codes, teacher, dictionary = _taught(step)
    mask = torch.ones(len(codes), dtype=torch.bool, device=codes.device)
    return losses.coded_cosine_loss(codes, dictionary, teacher, mask)


@term
def teacher_l1(step: Step) -> Float[Tensor, ""]:
    """L1 between coded features and the teacher's, both at unit length."""
    codes, teacher, dictionary = _taught(step)
    coded = F.normalize(codes @ dictionary, dim=-1)
    return (coded - F.normalize(teacher, dim=-1)).abs().mean()


@term
def dictionary(step: Step) -> Float[Tensor, ""]:
    """1 - cosine from the teacher's features to the nearest row."""
    _, teacher, rows = _taught(step)
    return losses.nearest_row_loss(losses.row_cosines(teacher, rows))


@term
def load_balance(step: Step) -> Float[Tensor, ""]:
    """All rows should serve."""
    _, teacher, rows = _taught(step)
    return losses.load_balance_loss(losses.row_cosines(teacher, rows))


@term
def teacher_code(step: Step) -> Float[Tensor, ""]:
    """Cross-entropy of the codes against the row that is nearest to the teacher's feature."""
    codes, teacher, rows = _taught(step)
    labels = losses.row_cosines(teacher, rows).argmax(-1)
    chance = codes.gather(-1, labels[:, None])[:, 0]
    return -chance.clamp(min=1e-4).log().mean()


@term
def affinity(step: Step) -> Float[Tensor, ""]:
    """Edges of the codes where the teacher has edges."""
    assert step.teacher
    teacher = step.given.teachers[step.teacher].flatten(0, 1)
    chance = step.prediction.whole_logits.softmax(-1).flatten(0, 1).movedim(-1, 1)
    cells = F.adaptive_avg_pool2d(chance, (teacher.shape[-2], teacher.shape[-1]))
    return losses.affinity_loss(cells.movedim(1, -1), teacher.movedim(1, -1))


@term
def prototype(step: Step) -> Float[Tensor, ""]:
    """InfoNCE of instance embeddings against the mean of each object, set by set."""
    pairs = zip(*_sampled_instances(step), strict=True)
    return torch.stack(
        [losses.prototype_loss(*pair, temperature=0.1, unit=True) for pair in pairs]
    ).mean()


@term
def separation(step: Step) -> Float[Tensor, ""]:
    """Hinge between the objects of a set."""
    pairs = zip(*_sampled_instances(step), strict=True)
    return torch.stack([losses.separation_loss(*pair) for pair in pairs]).mean()


def _sampled_instances(step: Step) -> tuple[list[Tensor], list[Tensor]]:
    """Embeddings and identities of some pixels of each set, without those that are unknown."""
    embeddings = step.prediction.instances.flatten(1, 3)
    index = step.sample(embeddings.shape[1], SAMPLED_PIXELS)
    embeddings = embeddings.index_select(1, index)
    identities = step.given.identity.flatten(1).index_select(1, index)
    known = identities != UNKNOWN
    return (
        [one[keep] for one, keep in zip(embeddings, known, strict=True)],
        [one[keep] for one, keep in zip(identities, known, strict=True)],
    )


@term
def neighbour(step: Step) -> Float[Tensor, ""]:
    """Codes of Gaussians that lie side by side are alike."""
    rows, columns = step.pixels
    points = step.points[0][:, :, rows, columns].flatten(1, 3)
    logits = step.prediction.whole_logits.flatten(1, 3)
    random = torch.Generator().manual_seed(step.number)
    return torch.stack(
        [
            losses.neighbour_loss(one, code, k=NEIGHBOURS, samples=SAMPLED_PIXELS, generator=random)
            for one, code in zip(points, logits, strict=True)
        ]
    ).mean()


@term
def object_agreement(step: Step) -> Float[Tensor, ""]:
    """The Gaussians of one object have one code."""
    rows, columns = step.pixels
    logits = step.prediction.whole_logits.flatten(1, 3)
    identities = step.given.identity[:, :, rows, columns].flatten(1)
    known = identities != UNKNOWN
    return torch.stack(
        [
            losses.object_agreement_loss(logit[keep], identity[keep])
            for logit, identity, keep in zip(logits, identities, known, strict=True)
        ]
    ).mean()


@term
def view_agreement(step: Step) -> Float[Tensor, ""]:
    """Views that see a surface point of the reference give it one code; needs a code a pixel."""
    given = step.given
    views = torch.arange(given.images.shape[1], device=given.images.device)
    stride = 2
    places, seen = losses.correspondences(
        given.depth,
        given.intrinsics,
        given.world_from_camera,
        torch.zeros_like(views),
        views,
        stride,
    )
    height, width = given.images.shape[-2:]
    size = image_size(height, width, places.device)
    grid = (2 * places / size - 1).flatten(0, 1)[:, :, None]
    logits = step.prediction.whole_logits.flatten(0, 1).movedim(-1, 1)
    there = F.grid_sample(logits, grid, align_corners=False)[..., 0].mT
    there = there.unflatten(0, seen.shape[:2])
    return torch.stack(
        [losses.view_agreement_loss(a, b) for a, b in zip(there, seen, strict=True)]
    ).mean()
