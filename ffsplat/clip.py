"""OpenCLIP: names, licences, and the one road from a name to a network, by safetensors alone.

open_clip itself falls back on pickles and only warns where weights and activation do not belong
together; here both are errors. Only networks with text towers of open_clip's own are loaded: others
would fetch tokenizers and code settings from elsewhere.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from ffsplat.errors import CheckpointError, FFSplatError, UsageError, WeightsMissing

OPEN_CLIP = "open_clip:"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
"""What OpenCLIP calls its files on the hub; a folder of both is a model too."""

PATIENCE = 3.0
"""Seconds that a dead network may cost."""

MAX_CONFIG = 1 << 20
MAX_SIZE, MAX_LAYERS = 1 << 18, 256
"""Bounds on the numbers of a configuration from a folder, beyond those of any published network."""

_NAME = re.compile(r"[\w.-]{1,80}")
_RESEARCH = "MIT, meant for research by their cards"
_APPLE = "Apple's own licence for research, beside the weights"


@dataclass(frozen=True)
class License:
    """Terms of published weights; `restricted` where they exclude commercial use."""

    text: str
    restricted: bool = False


UNKNOWN_LICENSE = License("stated by whoever publishes them")
LICENSES = {
    "laion": License(_RESEARCH),
    "openai": License(_RESEARCH),
    "datacomp_": License(_RESEARCH),
    "commonpool_": License(_RESEARCH),
    "metaclip": License("CC BY-NC 4.0, non-commercial", restricted=True),
    "dfn": License(_APPLE, restricted=True),
    "datacompdr": License(_APPLE, restricted=True),
    "dfndr": License(_APPLE, restricted=True),
}
"""Licences by what the tag begins with, from the cards of the weights."""


@dataclass(frozen=True)
class ClipName:
    """An architecture of open_clip and the tag of its weights."""

    arch: str
    tag: str

    @property
    def space(self) -> str:
        """The name of the space that its images and texts share, as in `Codebook.spaces`."""
        return f"{OPEN_CLIP}{self.arch}/{self.tag}"

    @property
    def license(self) -> License:
        """What is known of the licence of the weights; `UNKNOWN_LICENSE` if nothing is."""
        found = (entry for start, entry in LICENSES.items() if self.tag.startswith(start))
        return next(found, UNKNOWN_LICENSE)


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


def parse_space(space: str) -> ClipName | None:
    """The network that "open_clip:<arch>/<tag>" names, or None for a space of another form."""
    arch, _, tag = space.removeprefix(OPEN_CLIP).partition("/")
    fits = space.startswith(OPEN_CLIP) and _NAME.fullmatch(arch) and _NAME.fullmatch(tag)
    return ClipName(arch, tag) if fits else None


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
    published = _published(name)
    _check_kind(name.arch, config, text_only)
    _check_activation(name, config, published)
    path = weights_file(name.arch, name.tag, offline) if weights is None else weights
    return _ready(name, _filled(config, path, text_only, name.arch), config, published, path)


def load_clip_folder(folder: Path, *, text_only: bool = False) -> Clip:
    """A network from a folder with `CONFIG` and `WEIGHTS`, as repositories on the hub are.

    Its tag is the start of the weights' sha256, so that a codebook made with it fits these weights
    alone. Raises CheckpointError and WeightsMissing for broken or missing files.
    """
    settings = _read_config(folder / CONFIG)
    config = settings.get("model_cfg")
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise CheckpointError(f"{folder / CONFIG} describes no network of open_clip")
    _check_bounds(folder / CONFIG, config)
    _check_kind(str(folder), config, text_only)
    path = folder / WEIGHTS
    if not path.is_file():
        raise WeightsMissing(f"{folder} has no {WEIGHTS}", "pickles are not opened")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    arch = re.sub(r"[^\w.-]", "-", folder.resolve().name)[:80] or "folder"
    name = ClipName(arch, f"sha256-{digest[:16]}")
    model = _filled(config, path, text_only, arch)
    preprocess = settings.get("preprocess_cfg")
    return _ready(name, model, config, preprocess if isinstance(preprocess, dict) else {}, path)


def random_clip(name: ClipName, seed: int = 0) -> Clip:
    """A network as it is before training, for tests; errors for the name as `load_clip`."""
    import torch

    config, published = arch_config(name.arch), _published(name)
    _check_kind(name.arch, config, text_only=False)
    _check_activation(name, config, published)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _ready(name, new_clip(config), config, published, None)


def arch_config(arch: str) -> dict[str, Any]:
    """The configuration of an architecture; UsageError for one that open_clip does not list."""
    import open_clip

    # Only names of the list: others may be addresses that open_clip would follow.
    config = open_clip.get_model_config(arch) if arch in open_clip.list_models() else None
    if config is None:
        raise UsageError(f"open_clip has no model {arch!r}", "open_clip.list_models() lists them")
    return config


def new_clip(config: Mapping[str, Any]) -> Any:
    """A network of this configuration as it is before training, on the current default device."""
    import open_clip

    options = {key: value for key, value in config.items() if key != "custom_text"}
    options["vision_cfg"] = {**options["vision_cfg"], "timm_model_pretrained": False}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    return kind(**options)


def weights_file(arch: str, tag: str, offline: bool = False) -> Path:
    """The published safetensors file of a network: from the hub's cache, else from the hub.

    A network that does not answer within `PATIENCE` seconds counts as dead. Raises UsageError for
    a tag that open_clip does not know, WeightsMissing for weights that are not to be had; it never
    falls back on a pickle.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    repository, file = _place(ClipName(arch, tag))
    place = f"{file} of {repository}"
    try:
        return Path(hf_hub_download(repository, file, local_files_only=True))
    except (HTTPError, OSError):
        pass  # not in the cache
    if offline or constants.HF_HUB_OFFLINE:
        raise WeightsMissing(f"{place} is not in the local cache", "run once without --offline")
    _check_reachable(repository, file)
    try:
        return Path(hf_hub_download(repository, file, etag_timeout=PATIENCE))
    except (HTTPError, OSError) as error:
        raise _not_to_be_had(place, error) from error


def _published(name: ClipName) -> dict[str, Any]:
    from open_clip.pretrained import get_pretrained_cfg

    return get_pretrained_cfg(name.arch, name.tag)


def _place(name: ClipName) -> tuple[str, str]:
    """Repository and file of published weights; a pickle's name becomes that of its twin."""
    import open_clip

    place = _published(name).get("hf_hub")
    if not place:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name.arch)) or "none"
        raise UsageError(
            f"open_clip knows no weights {name.tag!r} of {name.arch}", f"known: {known}"
        )
    repository, _, file = place.rpartition("/")
    return repository, str(Path(file).with_suffix(".safetensors")) if file else WEIGHTS


def _check_kind(what: str, config: Mapping[str, Any], text_only: bool) -> None:
    vision, text = config["vision_cfg"], config["text_cfg"]
    foreign = {"hf_model_name", "hf_tokenizer_name"} & set(text) or "multimodal_cfg" in config
    plain = (
        "timm_model_name" not in vision
        and not vision.get("attentional_pool")
        and isinstance(vision.get("layers", 12), int)
    )
    if foreign or (not plain and not text_only):
        raise UsageError(
            f"{what} is not a plain ViT of open_clip with a text tower of its own",
            "ViT-B-16 and its like are",
        )


def _check_activation(
    name: ClipName, config: Mapping[str, Any], published: Mapping[str, Any]
) -> None:
    """Refuse weights trained with QuickGELU for a network with GELU, and the reverse."""
    if not published or bool(published.get("quick_gelu")) == bool(config.get("quick_gelu")):
        return
    plain = name.arch.removesuffix("-quickgelu")
    right = f"{plain}-quickgelu" if published.get("quick_gelu") else plain
    raise UsageError(
        f"weights {name.tag} were trained with another activation than {name.arch} has",
        ClipName(right, name.tag).space,
    )


def _check_reachable(repository: str, file: str) -> None:
    """Raise WeightsMissing unless the hub has the file and says so within `PATIENCE`.

    Asked in a thread of its own, because resolving a name can hang beyond every timeout.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    answers: SimpleQueue[Exception | None] = SimpleQueue()

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(repository, file), timeout=PATIENCE)
        except (HTTPError, OSError) as error:
            answers.put(error)
        else:
            answers.put(None)

    Thread(target=ask, daemon=True).start()
    place = f"{file} of {repository}"
    try:
        error = answers.get(timeout=PATIENCE)
    except Empty:
        raise _not_to_be_had(place, f"no answer within {PATIENCE:.0f} s") from None
    if error is not None:
        raise _not_to_be_had(place, error) from error


def _not_to_be_had(place: str, reason: object) -> WeightsMissing:
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return WeightsMissing(
        f"{place} is not to be had: {lines[0][:200]}",
        "connect once, or give the weights as a safetensors file or folder",
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG + 1)
    except OSError as error:
        raise WeightsMissing(
            f"cannot read {path}: {error.strerror}", f"a model is a folder of {CONFIG}, {WEIGHTS}"
        ) from error
    try:
        settings = json.loads(content) if len(content) <= MAX_CONFIG else None
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} is not a configuration in JSON")
    return settings


def _check_bounds(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse sizes that no network has before anything is built of them, and foreign addresses."""
    towers = config["vision_cfg"], config["text_cfg"]
    if not all(isinstance(tower, dict) for tower in towers):
        raise CheckpointError(f"{path} describes no towers")
    sizes = [v for part in (config, *towers) for v in part.values() if isinstance(v, int | float)]
    layers = [tower.get("layers", 1) for tower in towers]
    deep = any(isinstance(count, int) and count > MAX_LAYERS for count in layers)
    if deep or any(not abs(size) <= MAX_SIZE for size in sizes):
        raise CheckpointError(f"{path} has a size that no network has")
    if ":" in str(towers[0].get("timm_model_name", "")):
        raise CheckpointError(f"{path} names a network elsewhere")


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
    tokenizer = open_clip.SimpleTokenizer(
        context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {})
    )
    mean = _three(preprocess.get("mean"), open_clip.OPENAI_DATASET_MEAN)
    std = _three(preprocess.get("std"), open_clip.OPENAI_DATASET_STD)
    return Clip(name, model.requires_grad_(False).eval(), tokenizer, mean, std, weights)


def _three(given: Any, usual: tuple[float, ...]) -> tuple[float, ...]:
    if given is None:
        return usual
    if len(given) != 3 or not all(isinstance(value, int | float) for value in given):
        raise CheckpointError(f"not three numbers for three colours: {given!r:.80}")
    return tuple(map(float, given))


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
