"""The original's own code, where the user has it: found, imported and given drawn weights."""

import importlib
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ffsplat.config import ModelConfig
from ffsplat.nn.stem import normalize_colors
from tests.zoo.da3_outputs import Outputs, original_outputs
from tests.zoo.da3_recipe import draw_weight

UNUSED = ("evo", "evo.core", "evo.core.trajectory")
"""Packages that the original imports for what is not compared (aligning to given trajectories)."""


def find_original(source: Path, packages: Path | None) -> None:
    """Make the original importable; raises ImportError where it is not."""
    for path in (packages, source):
        if path is not None:
            sys.path.insert(0, str(path))
    for name in UNUSED:
        try:
            importlib.import_module(name)
        except ImportError:
            module: Any = types.ModuleType(name)
            module.PosePath3D = None
            sys.modules[name] = module
    importlib.import_module("depth_anything_3.model.da3")


def build_original(config: ModelConfig, published: str) -> nn.Module:
    """The original's network of a published name, in the sizes of `config`; weights undefined."""
    cfg = importlib.import_module("depth_anything_3.cfg")
    dinov2 = importlib.import_module("depth_anything_3.model.dinov2.dinov2")
    transformer = importlib.import_module("depth_anything_3.model.dinov2.vision_transformer")
    folder = Path(str(cfg.__file__)).parent / "configs"
    settings = cfg.load_config(str(folder / f"{published}.yaml"))
    settings.net.out_layers = list(config.taps)
    for key in ("alt_start", "qknorm_start", "rope_start"):
        settings.net[key] = config.camera_block
    heads = [settings.head] + ([settings.gs_head] if config.gaussian_head else [])
    for head in heads:
        head.dim_in, head.features = 2 * config.width, config.dpt_width
        head.out_channels = list(config.dpt_channels)
    settings.cam_enc.dim_out, settings.cam_enc.trunk_depth = config.width, config.camera_encoder
    settings.cam_dec.dim_in = 2 * config.width
    sized = partial(
        transformer.DinoVisionTransformer,
        embed_dim=config.width, depth=config.blocks, num_heads=config.heads,
    )  # fmt: skip
    builders = ("vit_small", "vit_base", "vit_large", "vit_giant2")
    with patch.multiple(dinov2, **dict.fromkeys(builders, sized)):
        return cfg.create_object(settings).eval()


@torch.no_grad()
def draw_weights(original: nn.Module, seed: int) -> None:
    """Give every parameter the values that the recipe draws for its name."""
    for name, parameter in original.named_parameters():
        parameter.copy_(torch.from_numpy(draw_weight(name, tuple(parameter.shape), seed)))


@torch.inference_mode()
def run_original(
    original: Any,
    images: Tensor,
    cameras: tuple[Tensor, Tensor] | None,
    gaussians: bool,
) -> Outputs:
    """What the original says about photos in [0, 1]; `cameras` are extrinsics and intrinsics."""
    heads: list[dict[str, Tensor]] = []
    handle = original.head.register_forward_hook(lambda *call: heads.append(dict(call[2])))
    extrinsics, intrinsics = cameras or (None, None)
    raw = original(
        normalize_colors(images), extrinsics, intrinsics, infer_gs=gaussians and cameras is None
    )
    handle.remove()
    return original_outputs(raw, heads[0], images)
