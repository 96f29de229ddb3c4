"""Depth Anything 3: the sizes of its published networks, and its names for our parameters.

Needs no torch. Sources: Lin et al., "Depth Anything 3: Recovering the Visual Space from Any Views",
2025, and github.com/ByteDance-Seed/Depth-Anything-3 (Apache-2.0), for names, sizes and formulas.
"""

from collections.abc import Mapping

from ffsplat.config import ModelConfig

NON_COMMERCIAL = "CC-BY-NC-4.0"


def _preset(name: str, **sizes) -> ModelConfig:
    common = {
        "resolution": 504, "stem": "patch", "patch": 14, "table": 37, "norm_epsilon": 1e-6,
        "rotary": "grid", "reference": "balanced", "camera_encoder": 4, "match_block": 0,
        "registers": 0, "read_out": "dpt", "decoder": (), "whole_rows": 0, "part_rows": 0,
        "instance_width": 0, "metric": False,
    }  # fmt: skip
    return ModelConfig(name=name, **(common | sizes))


def _starts(block: int) -> dict[str, int]:
    """The block from which cameras are known, and queries and keys are normalised and rotated."""
    return {"camera_block": block, "query_norm_from": block, "rotary_from": block}


PRESETS = {
    config.name: config
    for config in (
        _preset(
            "da3-small", width=384, heads=6, view_blocks=4, cross_blocks=8, **_starts(4),
            taps=(5, 7, 9, 11), dpt_width=64, dpt_channels=(48, 96, 192, 384),
        ),
        _preset(
            "da3-base", width=768, heads=12, view_blocks=4, cross_blocks=8, **_starts(4),
            taps=(5, 7, 9, 11), dpt_width=128, dpt_channels=(96, 192, 384, 768),
        ),
        _preset(
            "da3-large", width=1024, heads=16, view_blocks=8, cross_blocks=16, **_starts(8),
            taps=(11, 15, 19, 23), dpt_width=256, dpt_channels=(256, 512, 1024, 1024),
            license=NON_COMMERCIAL,
        ),
        # Its block 12 still attends within a view, because those across views have odd numbers.
        _preset(
            "da3-giant", width=1536, heads=24, view_blocks=12, cross_blocks=28, **_starts(13),
            taps=(19, 27, 33, 39), dpt_width=256, dpt_channels=(256, 512, 1024, 1024),
            perceptron="swiglu", gaussian_head=True, sh_degree=2, license=NON_COMMERCIAL,
        ),
    )
}  # fmt: skip
"""The networks by the name that their published config.json gives."""

_TRUNK, _HEAD = "backbone.pretrained.", "head.scratch."

PARAMETERS = {
    "class_token": _TRUNK + "cls_token",
    "special": _TRUNK + "camera_token",
    "position.table": _TRUNK + "pos_embed",
}
"""Our name -> the original's, of parameters that are no weight, bias or gamma."""

_BLOCK = {
    "norm1": "norm1", "norm2": "norm2", "attention.qkv": "attn.qkv", "attention.proj": "attn.proj",
    "attention.q_norm": "attn.q_norm", "attention.k_norm": "attn.k_norm",
    "scale1": "ls1", "scale2": "ls2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
}  # fmt: skip
_FUSION = {
    "lateral.conv1": "resConfUnit1.conv1", "lateral.conv2": "resConfUnit1.conv2",
    "mix.conv1": "resConfUnit2.conv1", "mix.conv2": "resConfUnit2.conv2", "out": "out_conv",
}  # fmt: skip


def _below(ours: str, theirs: str, parts: Mapping[str, str]) -> dict[str, str]:
    return {f"{ours}.{a}": f"{theirs}.{b}" for a, b in parts.items()}


def _pyramid(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"{ours}.norm": f"{theirs}.norm",
        f"{ours}.project.*": f"{theirs}.projects.*",
        f"{ours}.resize.*": f"{theirs}.resize_layers.*",
        f"{ours}.adapt.*": f"{theirs}.scratch.layer+_rn",
    }


MODULES = {
    "stem.project": _TRUNK + "patch_embed.proj",
    "norm": _TRUNK + "norm",
    **_below("blocks.*", _TRUNK + "blocks.*", _BLOCK),
    **_pyramid("dense.pyramid", "head"),
    **_below("dense.depth.fusion.steps.*", _HEAD + "refinenet+", _FUSION),
    "dense.depth.neck": _HEAD + "output_conv1",
    "dense.depth.hidden": _HEAD + "output_conv2.0",
    "dense.depth.out": _HEAD + "output_conv2.2",
    **_below("dense.rays.fusion.steps.*", _HEAD + "refinenet+_aux", _FUSION),
    "dense.rays.neck.*": _HEAD + "output_conv1_aux.3.*",
    "dense.rays.hidden": _HEAD + "output_conv2_aux.3.0",
    "dense.rays.norm": _HEAD + "output_conv2_aux.3.2",
    "dense.rays.out": _HEAD + "output_conv2_aux.3.5",
    **_pyramid("dense.gaussians.pyramid", "gs_head"),
    **_below("dense.gaussians.fusion.steps.*", "gs_head.scratch.refinenet+", _FUSION),
    "dense.gaussians.neck": "gs_head.scratch.output_conv1",
    "dense.gaussians.hidden": "gs_head.scratch.output_conv2.0",
    "dense.gaussians.out": "gs_head.scratch.output_conv2.2",
    "dense.gaussians.photo.*": "gs_head.images_merger.2*",
    "camera_decoder.hidden.*": "cam_dec.backbone.2*",
    "camera_decoder.position": "cam_dec.fc_t",
    "camera_decoder.quaternion_xyzw": "cam_dec.fc_qvec",
    "camera_decoder.field": "cam_dec.fc_fov.0",
    "camera_encoder.embed.fc1": "cam_enc.pose_branch.fc1",
    "camera_encoder.embed.fc2": "cam_enc.pose_branch.fc2",
    "camera_encoder.start_norm": "cam_enc.token_norm",
    **_below("camera_encoder.blocks.*", "cam_enc.trunk.*", _BLOCK),
    "camera_encoder.norm": "cam_enc.trunk_norm",
}
"""Our module -> the original's. In its name, * is the number in ours, + one more, 2* twice that."""

GATED = {"mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"}
"""Names within a block whose hidden layer is gated."""

SHARED_NORM = "dense.rays.norm"
"""One module that the original lists for each of four levels; a file may keep any of its names."""


def is_da3(config: Mapping[str, object]) -> bool:
    """Whether a parsed config.json is one that Depth Anything 3 publishes."""
    return str(config.get("model_name", "")).startswith("da3")


def original_name(ours: str, config: ModelConfig) -> str:
    """The original's name of one of our parameters, without the prefix of published files."""
    if ours in PARAMETERS:
        return PARAMETERS[ours]
    module, _, parameter = ours.rpartition(".")
    number = next((part for part in module.split(".") if part.isdigit()), "")
    pattern = ".".join("*" if part == number else part for part in module.split("."))
    theirs = MODULES[pattern]
    if config.perceptron == "swiglu" and module.startswith("blocks."):
        for plain, gated in GATED.items():
            theirs = theirs.replace(plain, gated)
    if number:
        for sign, value in (("2*", 2 * int(number)), ("*", int(number)), ("+", int(number) + 1)):
            theirs = theirs.replace(sign, str(value))
    return f"{theirs}.{parameter}"
