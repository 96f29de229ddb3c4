"""Which Gaussians a sentence means: choice of the teacher's mask, response and contrast.

Source: He et al., "ReferSplat", 2025, and its code.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from train.losses.masks import masked_mean


def choose_mask(masks: Bool[Tensor, "k h w"], confidences: Float[Tensor, " k"]) -> Int[Tensor, ""]:
    """Index of the candidate mask that the others support most, weighted by confidence.

    Candidate k scores sum_j IoU(g_k M_k, g_j M_j), g being the confidences; the IoU of two scaled
    masks is sum min / sum max (Ruzicka), 0 where both are empty. The term j = k adds 1 to all but
    empty candidates. Ties go to the first. Raises ValueError without a candidate.
    """
    if not len(masks):
        raise ValueError("there is no mask to choose from")
    flat = masks.flatten(1).to(confidences)
    both = flat @ flat.mT
    lower = torch.minimum(confidences[:, None], confidences)
    weighted = confidences * flat.sum(1)
    intersection = lower * both
    # min + max = sum, so the union needs no second pass over the pixels.
    union = weighted[:, None] + weighted - intersection
    overlap = torch.where(union > 0, intersection / union.clamp(min=1e-12), 0.0)
    return overlap.sum(1).argmax()


def sentence_response(
    features: Float[Tensor, "n d"], words: Float[Tensor, "w d"]
) -> Float[Tensor, " n"]:
    """How strongly each Gaussian answers a sentence: the sum of its inner products with the words.

    Blended along a ray it is the logit of the sentence's mask.
    """
    return features @ words.sum(0)


def response_loss(logits: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of rendered responses against the mask of a sentence."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), mask.float(), reduction="none")
    return masked_mean(losses, torch.ones_like(losses))


def responding_feature(
    features: Float[Tensor, "n d"], responses: Float[Tensor, " n"], share: float
) -> Float[Tensor, " d"]:
    """Mean feature of the `share` of Gaussians (one at least) that answer most strongly.

    The original starts at 0.1 and multiplies by 0.6 every 2000 steps, down to 0.005. Raises
    ValueError without Gaussians.
    """
    if not len(features):
        raise ValueError("there are no Gaussians to answer")
    rows = responses.topk(max(1, int(share * len(features)))).indices
    return features[rows].mean(0)


def contrast_loss(
    feature: Float[Tensor, " d"],
    sentences: Float[Tensor, "s d"],
    positive: Bool[Tensor, " s"],
    *,
    temperature: float = 0.1,
    paired: bool = True,
) -> Float[Tensor, ""]:
    """What answers is closer to the sentences that mean it than to all others.

    With cosines over the temperature s, `paired` is log(1 + sum exp(s_n - s_p)) over all pairs of a
    negative n and a positive p: what the released code computes. Otherwise it is the form that the
    paper prints, -mean_p log softmax(s)_p (Khosla et al., 2020, equation 2); for one positive they
    are the same. 0 without positives, and with `paired` also without negatives.
    """
    logits = F.normalize(sentences, dim=1) @ F.normalize(feature, dim=0) / temperature
    if paired:
        pairs = (logits[~positive][:, None] - logits[positive]).flatten()
        return torch.cat([pairs.new_zeros(1), pairs]).logsumexp(0)
    return masked_mean(-logits.log_softmax(0), positive)
