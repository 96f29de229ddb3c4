"""The public road from photos to a scene: `load` a model, then `infer`."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float32

from ffsplat import __version__, codes
from ffsplat.chunks import Placement, free_memory, views_per_pass
from ffsplat.chunks.place import FIRST
from ffsplat.codebook import code_gram
from ffsplat.config import ModelConfig
from ffsplat.device import Dtype, choose_device, choose_dtype, memory_errors, on_cpu
from ffsplat.errors import ImageError, UsageError
from ffsplat.hub import load_checkpoint, push_checkpoint, resolve
from ffsplat.hub.licenses import require_text_license
from ffsplat.images import ImageInput, LoadedViews, Skipped, load_views
from ffsplat.merge import confidences, to_scene, with_known_intrinsics
from ffsplat.model import FFSplat
from ffsplat.one_pass import OnePass
from ffsplat.prediction import Prediction
from ffsplat.predictor import ModelPredictor, timed
from ffsplat.refine import refine_cameras
from ffsplat.remembered import ViewMemory
from ffsplat.semantics.dense import DenseClip
from ffsplat.semantics.objects import name_objects
from ffsplat.semantics.vocabulary import OpenVocabulary, dense_clip
from ffsplat.stream.delta import CODES
from ffsplat.stream.settings import MapperSettings
from ffsplat.types import Codebook, Scene, Views

if TYPE_CHECKING:
    from ffsplat.stream.mapper import Mapper

_log = logging.getLogger(__name__)

LOW_PARALLAX = 0.01
"""Largest distance from the first camera, over the mean depth, that is worth a warning."""


@dataclass(frozen=True, eq=False)
class InferReport:
    """How a scene came about.

    `depth` is the z-depth of each view in `views`, in the unit of the scene. `passes` says how each
    pass through the network was placed beside the one before. `prediction` is what the network
    said, on the CPU, one set of all views; None if it took several passes. `seconds` is the wall
    time of each stage: images, network, cameras, meaning (where it is lifted from a network of its
    own), scene (which includes placing and joining).
    """

    views: Views
    depth: Float32[np.ndarray, "v h w"]
    passes: tuple[Placement, ...]
    prediction: Prediction | None
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
        dense: DenseClip | None = None,
        masks: Any = None,
        provenance: Mapping[str, str] | None = None,
    ):
        """Put a network in evaluation mode on a device.

        With `dense`, meaning is lifted from that network's features, in place of what the first
        one may say of it; `masks` (`semantics.masks`) then say what is one thing. `provenance` is
        recorded in every scene. Raises UsageError for a device that is not there.
        """
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.network = network.eval().to(self.device)
        self._pass = OnePass(self.network, self.device, self.dtype != torch.float32)
        self.codebook = codebook
        self.dense, self.masks = dense, masks
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
        max_views: int | None = None,
        chunk_views: int | None = None,
        max_megapixels: int | float = 64,
        on_error: Literal["skip", "fail"] = "skip",
        refine: bool = True,
        topk: int = 4,
        hard_ids: bool = False,
        min_confidence: float = 0.05,
        prune_edges: bool = True,
        consistent: bool = True,
        voxel: float | None = None,
        max_gaussians: int | None = None,
    ) -> InferResult:
        """The scene that photos show, and how it came about.

        `inputs`, `max_megapixels`, `on_error`: see `images.load_views`. `resolution` is the longer
        side for the network in pixels (the model's own unless given). Of more than `max_views`
        photos, evenly spaced ones are used. At most `chunk_views` go through the network at once -
        by default `chunks.views_per_pass` - and with more photos each is mapped beside those near
        it (`stream.album.map_photos`). `refine` corrects cameras by the network's matches.
        `hard_ids` gives each object a codebook row, where meaning is lifted (`semantics.lift`). The
        rest is for `merge.to_scene` (`prune_edges` and `consistent` hold always with several
        passes). On a CPU, equal passes, which depend on the free memory, give an equal scene.

        Raises UsageError for options, ImageError for photos (also if no pixel is usable), and
        MemoryLimit when the device cannot hold the views of a pass at once.
        """
        _check_options(topk, min_confidence, voxel, max_gaussians, chunk_views)
        _check_naming(hard_ids, self.dense)
        seconds: dict[str, float] = {}
        size = self.config.resolution if resolution is None else resolution
        with timed(seconds, "images"):
            loaded = load_views(
                _listed(inputs), resolution=size, patch=self.config.patch, on_error=on_error,
                max_views=max_views, max_megapixels=max_megapixels,
            )  # fmt: skip
        views, together = loaded.views, self._together(loaded.views, chunk_views)
        lifting = dict(min_confidence=min_confidence, max_gaussians=max_gaussians, topk=topk)
        with memory_errors(together, size, self.device), torch.inference_mode():
            if together < len(views):
                done = self._map(views, together, voxel, refine, hard_ids, lifting, seconds)
            else:
                pruning = dict(prune_edges=prune_edges, consistent=consistent, voxel=voxel)
                done = self._at_once(views, refine, hard_ids, lifting | pruning, seconds)
        return _result(loaded, done, seconds)

    def _at_once(
        self,
        views: Views,
        refine: bool,
        hard_ids: bool,
        lifting: Mapping[str, Any],
        seconds: dict[str, float],
    ) -> "_Done":
        """All views in one pass; `lifting` is for `merge.to_scene`, `seconds` grows."""
        vocabulary = self.dense and OpenVocabulary(self.dense, self.masks, hard_ids)
        with timed(seconds, "network"):
            prediction = self.predict(views)
        with timed(seconds, "cameras"):
            prediction = self.place_cameras(prediction, views, refine)
        meaning = None
        if vocabulary is not None:
            with timed(seconds, "meaning"):
                sure = confidences(prediction)[0].float().numpy()
                meaning = vocabulary.label(prediction, views, sure, topk=lifting["topk"])
        with timed(seconds, "scene"):
            scene = to_scene(
                prediction, views, self.codebook, metric=self.config.metric, meaning=meaning,
                provenance=self.provenance, **lifting,
            )  # fmt: skip
            if vocabulary is not None:
                scene = vocabulary.finish(scene)
        return _Done(scene, prediction.depth[0].float().numpy(), (FIRST,), (), prediction)

    def _map(
        self,
        views: Views,
        window: int,
        voxel: float | None,
        refine: bool,
        hard_ids: bool,
        lifting: Mapping[str, Any],
        seconds: dict[str, float],
    ) -> "_Done":
        """View by view, each in a window with those near it; `seconds` grows."""
        from ffsplat.stream.album import map_photos

        begin = time.perf_counter()
        predictor = ModelPredictor(self, refine, seconds)
        album = map_photos(
            predictor, views, window, cell=voxel, max_gaussians=lifting["max_gaussians"],
            min_confidence=lifting["min_confidence"],
        )  # fmt: skip
        scene, warnings = predictor.finish(album.scene), album.warnings(views)
        if lifting["topk"] > CODES:
            warnings += (f"photos that take several passes keep {CODES} pairs a Gaussian",)
        elif scene.codes is not None and not hard_ids:
            assert scene.codebook is not None
            kept = codes.truncate(scene.codes, lifting["topk"], code_gram(scene.codebook))
            scene = replace(scene, codes=kept)
        if hard_ids:
            assert self.dense is not None
            scene = name_objects(scene, self.dense.name)
        others = sum(seconds.get(stage, 0) for stage in ("network", "cameras", "meaning"))
        seconds["scene"] = time.perf_counter() - begin - others
        return _Done(scene, album.depth, album.placements, warnings, None)

    def _together(self, views: Views, chunk_views: int | None) -> int:
        """How many views go through the network together."""
        if chunk_views is not None:
            return min(chunk_views, len(views))
        return views_per_pass(self.config, views.valid.shape, free_memory(self.device))

    def place_cameras(self, prediction: Prediction, views: Views, refine: bool) -> Prediction:
        """A prediction as `predict` gives it, on the CPU.

        Cameras have the focal lengths that photos tell, and are refined by the network's matches.
        """
        placed = with_known_intrinsics(on_cpu(prediction), views)
        if not refine:
            return placed
        known = torch.from_numpy(views.intrinsics[None, :, 0, 0]).isfinite()
        there = replace(prediction, intrinsics=placed.intrinsics.to(prediction.intrinsics))
        valid = self._pass.valid(views)
        return refine_cameras(placed, valid, known, lambda *_: self._pass.matches(there, valid))

    def stream(self, settings: MapperSettings | None = None, **options: Any) -> "Mapper":
        """A mapper for a camera's frames, by this model; `options` are those of its settings."""
        from ffsplat.stream.mapper import Mapper

        return Mapper(ModelPredictor(self), settings or MapperSettings(**options))

    def predict(
        self, views: Views, placed: int = 0, memory: ViewMemory | None = None
    ) -> Prediction:
        """What the network says about one set of views, on the model's device.

        Of the first `placed` views only what places them is asked for, see `FFSplat.forward`.
        `memory` spares what was computed for the same photos in earlier sets.
        """
        count, height, width = views.valid.shape
        _log.info(
            "%d views of %d x %d pixels, %s, %s", count, width, height, self.device, self.dtype
        )
        prediction = self._pass.predict(views, placed, memory)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return prediction


@dataclass(frozen=True, eq=False)
class _Done:
    """What photos became, in one pass (then `prediction` is what the network said) or in many."""

    scene: Scene
    depth: Float32[np.ndarray, "v h w"]
    passes: tuple[Placement, ...]
    warnings: tuple[str, ...]
    prediction: Prediction | None


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
    model = Model(
        network, codebook, device=device, dtype=dtype,
        provenance=folder.provenance | {"ffsplat": __version__},
    )  # fmt: skip
    if folder.text_space is not None:
        require_text_license(folder.text_space, accept_license)
        model.dense = dense_clip(
            folder.text_space, folder.text_weights, device=model.device, dtype=model.dtype,
            offline=offline,
        )  # fmt: skip
    return model


def _result(loaded: LoadedViews, done: _Done, seconds: dict[str, float]) -> InferResult:
    """The scene with its report; ImageError for a scene of nothing."""
    if not len(done.scene):
        raise ImageError("the photos have no usable pixel: they are transparent")
    warnings = loaded.warnings + done.warnings + _parallax_warning(done)
    report = InferReport(
        loaded.views, done.depth, done.passes, done.prediction, loaded.skipped, warnings, seconds
    )
    return InferResult(done.scene, report)


def _check_options(
    topk: int,
    min_confidence: float,
    voxel: float | None,
    max_gaussians: int | None,
    chunk_views: int | None,
) -> None:
    if not 1 <= topk <= 16:
        raise UsageError(f"topk is {topk}, expected 1 to 16")
    if not 0 <= min_confidence <= 1:
        raise UsageError(f"min_confidence is {min_confidence}, expected 0 to 1")
    if voxel is not None and not 0 < voxel < math.inf:
        raise UsageError(f"voxel is {voxel}, expected more than 0")
    if max_gaussians is not None and max_gaussians < 1:
        raise UsageError(f"max_gaussians is {max_gaussians}, expected at least 1")
    if chunk_views is not None and chunk_views < 2:
        raise UsageError(f"chunk_views is {chunk_views}, expected at least 2")


def _check_naming(hard_ids: bool, dense: DenseClip | None) -> None:
    if hard_ids and dense is None:
        raise UsageError("this model has no objects to name", "add +clip to its name")


def _listed(inputs: Sequence[ImageInput] | ImageInput) -> Sequence[ImageInput]:
    return [inputs] if isinstance(inputs, ImageInput) else inputs


def _parallax_warning(done: _Done) -> tuple[str, ...]:
    assert done.scene.cameras is not None
    centres = done.scene.cameras.world_from_camera[:, :3, 3]
    widest = np.linalg.norm(centres - centres[0], axis=1).max()
    if len(centres) < 2 or widest >= LOW_PARALLAX * done.depth.mean():
        return ()
    return ("the photos seem to be taken from one place: depth comes from single views",)
