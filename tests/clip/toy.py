"""A tiny OpenCLIP network for tests."""

import open_clip
import torch

from ffsplat.clip import ClipName

CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
NAME = ClipName("tiny-clip", "own")


def model(config: dict = CONFIG) -> torch.nn.Module:
    torch.manual_seed(5)
    options = {key: value for key, value in config.items() if key != "custom_text"}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    return kind(**options).eval()
