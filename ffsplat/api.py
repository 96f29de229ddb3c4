"""The public road from photos to a scene: `load` a model, then `infer`."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from ffsplat import __version__
from ffsplat.config import ModelConfig
from ffsplat.errors import ImageError, MemoryLimit, UsageError
from ffsplat.hub import load_checkpoint, push_checkpoint, resolve
from ffsplat.images import ImageInput, Skipped, load_views
from ffsplat.merge import to_scene, with_known_intrinsics
from ffsplat.model import FFSplat
from ffsplat.prediction import Prediction
from ffsplat.refine import refine_cameras
from ffsplat.types import Codebook, Scene, Views

_log = logging.getLogger(__name__)

MAX_VIEWS = 24
"""Photos in one pass unless told otherwise; of more, evenly spaced ones are used."""

LOW_PARALLAX = 0.01
"""Largest distance between cameras, over the mean depth, that is worth a warning."""

Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, eq=False)
class InferReport:
    """How a scene came about.

    `seconds` is the wall time of each stage: images, network, cameras, scene. `prediction` is on
    the CPU, one set of the views in `views`.
    """

    views: Views
    prediction: Prediction
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class InferResult:
    """A scene and the report of how it came about."""

    scene: Scene
    report: InferReport


class Model:
    """A network with its codebook on a device; `infer` turns photos into a scene."""

    def __init__(
        self,
        network: FFSplat,
        codebook: Codebook,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        provenance: Mapping[str, str] | None = None,
    ):
        """Put a network in evaluation mode on a device.

        `provenance` is recorded in every scene. Raises UsageError for a device that is not there.
        """
        self.device = _device(device)
        self.dtype = _dtype(dtype, self.device)
        self.network = network.eval().to(self.device)
        self.codebook = codebook
        self.provenance = dict(provenance or {})

    @classmethod
    def from_pretrained(cls, name: str, **options: Any) -> "Model":
        """The model of a name, folder or repository on the hub, as `load` gives it."""
        return load(name, **options)

    def push_to_hub(self, repository: str, **options: Any) -> str:
        """Publish the network and its codebook as "org/name" on the hub; returns the commit.

        `options` are those of `hub.push_checkpoint`, which tells the errors; the licence is that of
        the weights it was loaded from unless `license` is given.
        """
        license = options.pop("license", None) or self.provenance.get("license")
        return push_checkpoint(
            repository, self.network, self.codebook, license=license or self.config.license,
            **options,
        )  # fmt: skip

    @property
    def config(self) -> ModelConfig:
        """The description of the network."""
        return self.network.config

    def infer(self, inputs: Sequence[ImageInput] | ImageInput, **options) -> Scene:
        """The scene that photos show; see `infer_with_report` for options and errors."""
        return self.infer_with_report(inputs, **options).scene

    def infer_with_report(
        self,
        inputs: Sequence[ImageInput] | ImageInput,
        *,
        resolution: int | None = None,
        max_views: int = MAX_VIEWS,
        max_megapixels: int | float = 64,
        on_error: Literal["skip", "fail"] = "skip",
        refine: bool = True,
        topk: int = 4,
        min_confidence: float = 0.05,
        prune_edges: bool = True,
        voxel: float | None = None,
        max_gaussians: int | None = None,
    ) -> InferResult:
        """The scene that photos show, and how it came about.

        `inputs`, `max_megapixels` and `on_error` are those of `images.load_views`; `resolution`
        is the longer side for the network in pixels (the model's own unless given). Of more than
        `max_views` photos, evenly spaced ones are used. `refine` corrects the regressed cameras by
        the network's matches; the rest is for `merge.to_scene`. On a CPU the scene is reproducible.

        Raises UsageError for options, ImageError for photos (also if no pixel is usable), and
        MemoryLimit when the device cannot hold so many views at once.
        """
        _check_options(topk, min_confidence, voxel, max_gaussians)
        seconds: dict[str, float] = {}
        size = self.config.resolution if resolution is None else resolution
        with _timed(seconds, "images"):
            loaded = load_views(
                [inputs] if isinstance(inputs, ImageInput) else inputs,
                resolution=size, patch=self.config.patch, on_error=on_error,
                max_views=max_views, max_megapixels=max_megapixels,
            )  # fmt: skip
        views = loaded.views
        with _memory_errors(len(views), size, self.device), torch.inference_mode():
            with _timed(seconds, "network"):
                prediction = self.predict(views)
            with _timed(seconds, "cameras"):
                prediction = _to_cpu(self._place_cameras(prediction, views, refine))
            with _timed(seconds, "scene"):
                scene = to_scene(
                    prediction, views, self.codebook, topk=topk, min_confidence=min_confidence,
                    prune_edges=prune_edges, voxel=voxel, max_gaussians=max_gaussians,
                    metric=self.config.metric, provenance=self.provenance,
                )  # fmt: skip
        if not len(scene):
            raise ImageError("the photos have no usable pixel: they are transparent")
        warnings = loaded.warnings + _parallax_warning(prediction)
        return InferResult(scene, InferReport(views, prediction, loaded.skipped, warnings, seconds))

    def _place_cameras(self, prediction: Prediction, views: Views, refine: bool) -> Prediction:
        """Cameras with the focal lengths that photos tell, and refined by the network's matches."""
        prediction = with_known_intrinsics(prediction, views)
        if not refine:
            return prediction
        known = torch.from_numpy(views.intrinsics[None, :, 0, 0]).isfinite().to(self.device)
        return refine_cameras(prediction, self._valid(views), known)

    def predict(self, views: Views) -> Prediction:
        """What the network says about one set of views, on the model's device."""
        count, height, width = views.valid.shape
        _log.info(
            "%d views of %d x %d pixels, %s, %s", count, width, height, self.device, self.dtype
        )
        images = torch.from_numpy(views.pixels).movedim(-1, 1)[None].to(self.device)
        reduced = self.dtype != torch.float32
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=reduced),
        ):
            prediction = self.network(images, self._valid(views))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return prediction

    def _valid(self, views: Views) -> Bool[Tensor, "1 v h w"] | None:
        """Which pixels are a photo's own; None where all are, which spares the masking."""
        return None if views.valid.all() else torch.from_numpy(views.valid)[None].to(self.device)


def load(
    name: str = "auto",
    *,
    device: str = "auto",
    dtype: Dtype = "auto",
    revision: str | None = None,
    offline: bool = False,
    accept_license: bool = False,
) -> Model:
    """Load a model by name, folder or "org/repo[@revision]"; "auto" is the recommended one.

    `device` is auto (CUDA where there is one), cpu, cuda, cuda:N or mps; `dtype` auto computes in
    bfloat16 where the hardware is fast at it. `offline` uses no network; `accept_license` accepts a
    non-commercial licence, once for all. Raises WeightsMissing, CheckpointError and UsageError as
    `hub.resolve` and `hub.load_checkpoint` do.
    """
    folder = resolve(name, revision=revision, offline=offline, accept_license=accept_license)
    network, codebook = load_checkpoint(folder.path)
    provenance = folder.provenance | {"ffsplat": __version__}
    return Model(network, codebook, device=device, dtype=dtype, provenance=provenance)


def _check_options(
    topk: int, min_confidence: float, voxel: float | None, max_gaussians: int | None
) -> None:
    if not 1 <= topk <= 16:
        raise UsageError(f"topk is {topk}, expected 1 to 16")
    if not 0 <= min_confidence <= 1:
        raise UsageError(f"min_confidence is {min_confidence}, expected 0 to 1")
    if voxel is not None and not 0 < voxel < math.inf:
        raise UsageError(f"voxel is {voxel}, expected more than 0")
    if max_gaussians is not None and max_gaussians < 1:
        raise UsageError(f"max_gaussians is {max_gaussians}, expected at least 1")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hint = "choose auto, cpu, cuda, cuda:N or mps"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}", hint) from error
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= counts.get(device.type, 0):
        raise UsageError(f"device {name} is not on this machine", hint)
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        fast = _cpu_has_bfloat16() if device.type == "cpu" else device.type == "cuda"
        return torch.bfloat16 if fast else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name not in known:
        raise UsageError(f"unknown dtype {name!r}", f"choose auto, {' or '.join(known)}")
    return known[name]


@cache
def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16; where it must emulate that, float32 is faster."""
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", "replace").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


@contextmanager
def _memory_errors(views: int, resolution: int, device: torch.device) -> Iterator[None]:
    """Turn whatever Python or torch raises when memory ends into MemoryLimit."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        ended = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not ended and "allocate memory" not in text and "not enough memory" not in text:
            raise
        fewer = f"--max-views {max(1, views // 2)} or " if views > 1 else ""
        raise MemoryLimit(
            f"out of memory at {views} views x {resolution} px on {device}",
            f"try {fewer}--resolution {resolution // 2}",
        ) from error


def _to_cpu(prediction: Prediction) -> Prediction:
    present = {key: value for key, value in vars(prediction).items() if value is not None}
    return replace(prediction, **{key: value.cpu() for key, value in present.items()})


def _parallax_warning(prediction: Prediction) -> tuple[str, ...]:
    centres = prediction.world_from_camera[0, :, :3, 3]
    widest = torch.cdist(centres, centres).max()
    if len(centres) < 2 or widest >= LOW_PARALLAX * prediction.scale[0]:
        return ()
    return ("the photos seem to be taken from one place: depth comes from single views",)
