"""OpenCLIP, patch by patch: features that lie in the space of its text."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from data.teachers.name import NetworkName
from data.teachers.network import DenseNetwork
from data.teachers.weights import Weights, hub_file, local_file
from ffsplat.errors import CheckpointError, UsageError

SAFE = "open_clip_model.safetensors"
"""What OpenCLIP calls its weights on the hub."""


class DenseClip(DenseNetwork):
    """The vision tower of an OpenCLIP ViT with a last block in which no token sees another.

    A token that may attend to itself alone gets the out-projection of its own value, so what the
    last attention would pool stays where it is; the rest of the block, the last norm and the
    projection to the text space follow. Features have length 1: their inner product with a unit
    text embedding is the cosine. Source: Zhou et al., "Extract Free Dense Labels from CLIP"
    (MaskCLIP), 2022, section 3.2, with the residual path and MLP of its code.
    """

    def __init__(self, visual: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        """`visual` is an open_clip VisionTransformer without an attention pooler."""
        tower: Any = visual
        super().__init__(tuple(tower.patch_size), tower.output_dim, mean, std)
        self.visual = tower
        self.requires_grad_(False).eval()

    def dense(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Features of normalised images, in the text space, at length 1."""
        visual = self.visual
        grid = visual.conv1(images)
        size = (grid.shape[-2], grid.shape[-1])
        summary = visual.class_embedding.expand(len(images), 1, -1)
        tokens = torch.cat([summary, grid.flatten(2).mT], 1)
        tokens = tokens + resized_positions(visual.positional_embedding, visual.grid_size, size)
        tokens = visual.ln_pre(tokens)
        *blocks, last = visual.transformer.resblocks
        for block in blocks:
            tokens = block(tokens)
        patches = tokens[:, 1:]
        others = torch.full((patches.shape[1],) * 2, -torch.inf, device=patches.device)
        patches = last(patches, attn_mask=others.fill_diagonal_(0))
        features = F.normalize(visual.ln_post(patches) @ visual.proj, dim=-1)
        return features.mT.unflatten(2, size)


def resized_positions(
    positions: Float[Tensor, "tokens d"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "_ d"]:
    """Position embeddings of another grid of patches (rows, columns); the first is kept.

    Bicubic with antialiasing, as open_clip resizes those of a checkpoint; the same grid gives the
    same numbers.
    """
    patches = positions[1:].mT.unflatten(1, tuple(grid))[None]
    resized = F.interpolate(patches, size, mode="bicubic", antialias=True)
    return torch.cat([positions[:1], resized[0].flatten(1).mT])


def load_dense_clip(name: NetworkName, weights: Weights) -> tuple[DenseClip, Path | None]:
    """The network and the file of its weights, None for random ones.

    Raises UsageError for a model that open_clip does not have, that is no plain ViT, or whose
    weights were trained with another activation; WeightsMissing and CheckpointError for weights
    that are not to be had or do not fit.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    published = get_pretrained_cfg(name.arch, name.tag)
    _check_arch(name, published)
    path = _weights_file(name, weights, published)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model: Any = open_clip.create_model(
                name.arch, pretrained=path and str(path), pretrained_text=False, weights_only=True
            )
        except (RuntimeError, KeyError, SafetensorError) as error:
            raise CheckpointError(f"the weights in {path} do not fit {name.arch}") from error
    mean = published.get("mean", open_clip.OPENAI_DATASET_MEAN)
    return DenseClip(model.visual, mean, published.get("std", open_clip.OPENAI_DATASET_STD)), path


def _check_arch(name: NetworkName, published: dict[str, Any]) -> None:
    import open_clip

    # Only names of the built-in list: others may be addresses that open_clip would follow.
    config = open_clip.get_model_config(name.arch) if name.arch in open_clip.list_models() else None
    if config is None:
        raise UsageError(
            f"open_clip has no model {name.arch!r}", "open_clip.list_models() lists them"
        )
    vision, text = config["vision_cfg"], config["text_cfg"]
    if (
        "timm_model_name" in vision
        or vision.get("attentional_pool")
        or not isinstance(vision.get("layers", 12), int)
        or "hf_model_name" in text
    ):
        raise UsageError(
            f"{name.arch} is not a plain ViT of open_clip with a text tower of its own",
            "ViT-B-16 and its like are",
        )
    if published.get("quick_gelu") and not config.get("quick_gelu"):
        raise UsageError(
            f"weights {name.tag} were trained with another activation than {name.arch} has",
            f"open_clip:{name.arch}-quickgelu/{name.tag}",
        )


def _weights_file(name: NetworkName, weights: Weights, published: dict[str, Any]) -> Path | None:
    """The file of the weights; a name that the hub gives to a pickle is that of its twin."""
    if weights == "random":
        return None
    if isinstance(weights, Path):
        return local_file(weights)
    if not published.get("hf_hub"):
        import open_clip

        known = ", ".join(open_clip.list_pretrained_tags_by_model(name.arch))
        raise UsageError(
            f"open_clip knows no weights {name.tag!r} of {name.arch}", f"known: {known or 'none'}"
        )
    repository, _, file = published["hf_hub"].rpartition("/")
    return hub_file(repository, str(Path(file).with_suffix(".safetensors")) if file else SAFE)
