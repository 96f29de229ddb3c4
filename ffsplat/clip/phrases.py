"""Phrases through a text tower, no further than where the longest of them ends."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ffsplat.clip.load import Clip


@torch.inference_mode()
def embed_phrases(clip: Clip, phrases: list[str]) -> Float[Tensor, "t d"]:
    """Unit text embeddings, those of the network's own `encode_text`.

    Where no token sees a later one and the last one is read, the padding of a phrase has no part in
    its embedding, so it is left out: "red chair" takes 4 of the 77 places that towers compute.
    """
    import open_clip

    tokens, model = clip.tokenizer(phrases), clip.model
    if isinstance(model, open_clip.CLIP) and _reads_the_end(model):
        return F.normalize(_cut(model, tokens), dim=-1)
    return model.encode_text(tokens, normalize=True)


def _reads_the_end(model: Any) -> bool:
    causal = model.attn_mask is not None
    return causal and model.text_pool_type == "argmax" and isinstance(model.text_projection, Tensor)


def _cut(model: Any, tokens: Int64[Tensor, "t places"]) -> Float[Tensor, "t d"]:
    """The tower over the places up to the last end, which is the largest token of a phrase."""
    ends = tokens.argmax(1)
    places = int(ends.max()) + 1
    states = model.token_embedding(tokens[:, :places]) + model.positional_embedding[:places]
    states = model.transformer(states, attn_mask=model.attn_mask[:places, :places])
    return model.ln_final(states[torch.arange(len(ends)), ends]) @ model.text_projection
