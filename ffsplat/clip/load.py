"""From a name to a network: exactly the tensors of a safetensors file, nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffsplat.clip.config import arch_config, check_kind, folder_config
from ffsplat.clip.names import WEIGHTS, ClipName, folder_name
from ffsplat.clip.published import check_activation, published, weights_file
from ffsplat.errors import CheckpointError, FFSplatError


@dataclass(frozen=True, eq=False)
class Clip:
    """A loaded network in float32 on the CPU, frozen, and what its inputs need.

    `model` is an open_clip CLIP, without its vision tower if only text was asked for. `mean` and
    `std` normalise sRGB in [0, 1]; `tokenizer` gives the token IDs of a list of phrases; `weights`
    is the file that was read, None for random ones.
    """

    name: ClipName
    model: Any
    tokenizer: Callable[[list[str]], Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: Path | None = None


def load_clip(
    name: ClipName,
    *,
    weights: Path | None = None,
    offline: bool = False,
    text_only: bool = False,
) -> Clip:
    """A network of open_clip's list, from its published weights or those of a safetensors file.

    Without `text_only` its vision tower must be a plain ViT. Raises UsageError for a network that
    open_clip lacks or that is of another kind, and for weights that were trained with another
    activation (QuickGELU) than the architecture has; WeightsMissing and CheckpointError as
    `weights_file` and for weights that do not fit.
    """
    config = arch_config(name.arch)
    trained = published(name)
    check_kind(name.arch, config, text_only)
    check_activation(name, config, trained)
    path = weights_file(name.arch, name.tag, offline) if weights is None else weights
    return _ready(name, _filled(config, path, text_only, name.arch), config, trained, path)


def load_clip_folder(folder: Path, *, text_only: bool = False) -> Clip:
    """A network from a folder with `CONFIG` and `WEIGHTS`, as repositories on the hub are.

    It is called by `folder_name`, so that a codebook made with it fits these weights alone. Raises
    CheckpointError and WeightsMissing for broken or missing files.
    """
    config, preprocess = folder_config(folder)
    check_kind(str(folder), config, text_only)
    name, path = folder_name(folder), folder / WEIGHTS
    model = _filled(config, path, text_only, name.arch)
    return _ready(name, model, config, preprocess, path)


def random_clip(name: ClipName, seed: int = 0) -> Clip:
    """A network as it is before training, for tests; errors for the name as `load_clip`."""
    import torch

    config, trained = arch_config(name.arch), published(name)
    check_kind(name.arch, config, text_only=False)
    check_activation(name, config, trained)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _ready(name, new_clip(config), config, trained, None)


def new_clip(config: Mapping[str, Any]) -> Any:
    """A network of this configuration as it is before training, on the current default device."""
    import open_clip

    options = {key: value for key, value in config.items() if key != "custom_text"}
    options["vision_cfg"] = {**options["vision_cfg"], "timm_model_pretrained": False}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    return kind(**options)


def _ready(
    name: ClipName,
    model: Any,
    config: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    weights: Path | None,
) -> Clip:
    """The network with its tokenizer and the colours that it was trained on."""
    import open_clip

    text = config["text_cfg"]
    try:
        tokenizer = open_clip.SimpleTokenizer(
            context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {})
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name.arch} has no tokenizer of open_clip: {error}") from error
    mean = _three(preprocess.get("mean"), open_clip.OPENAI_DATASET_MEAN)
    std = _three(preprocess.get("std"), open_clip.OPENAI_DATASET_STD)
    return Clip(name, model.requires_grad_(False).eval(), tokenizer, mean, std, weights)


def _three(given: Any, usual: tuple[float, ...]) -> tuple[float, ...]:
    if given is None:
        return usual
    listed = given if isinstance(given, list | tuple) else ()
    if len(listed) != 3 or not all(isinstance(value, int | float) for value in listed):
        raise CheckpointError(f"not three numbers for three colours: {given!r:.80}")
    return tuple(map(float, listed))


def _filled(config: Mapping[str, Any], path: Path, text_only: bool, arch: str) -> Any:
    """The network with the tensors of a file, which must be exactly those that it has."""
    import torch

    from ffsplat.weights import check_fit, read_header, refuse_pickle

    refuse_pickle(path)
    if path.suffix != ".safetensors" or not path.is_file():
        raise CheckpointError(f"{path} is not a safetensors file")
    try:
        with torch.device("meta"):  # shapes only: nothing is allocated before the file fits them
            model = new_clip(config)
    except (TypeError, ValueError, RuntimeError, AttributeError, AssertionError) as error:
        raise CheckpointError(f"{arch} is no network of open_clip: {error}") from error
    try:
        check_fit(path, read_header(path), model.state_dict())
    except FFSplatError as error:
        raise CheckpointError(f"the weights in {path} do not fit {arch}: {error}") from error
    if text_only:
        model.visual = None
    model.load_state_dict(_tensors(path, list(model.state_dict())), strict=True, assign=True)
    _restore_masks(model, torch)
    return model


def _tensors(path: Path, names: list[str]) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    from ffsplat.weights import listing, not_finite

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    if broken := not_finite(tensors):
        raise CheckpointError(f"{path.name} has values that are not finite: {listing(broken)}")
    return tensors


def _restore_masks(model: Any, torch: Any) -> None:
    """Make the causal masks of the text tower, which no file holds: -inf above the diagonal."""
    for module in model.modules():
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta and key == "attn_mask":
                module.attn_mask = torch.full(buffer.shape, -torch.inf, device="cpu").triu(1)
            elif buffer.is_meta:
                raise CheckpointError(f"open_clip has a buffer {key!r} that no file holds")
