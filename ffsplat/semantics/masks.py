"""Masks of another network: features pooled within them, and SAM 2 where it is installed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from ffsplat.errors import CheckpointError, UsageError
from ffsplat.types import NO_ID

SAM2_SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
"""How SAM 2's weights call their size, and how its configurations do."""


@dataclass(frozen=True, eq=False)
class PooledMasks:
    """One unit vector (or 0) for each mask of each view: which view, which number, how large.

    Masks with one number in two views are two entries; whether they are one thing is for those to
    say who compare them.
    """

    features: Float32[np.ndarray, "m d"]
    views: Int64[np.ndarray, " m"]
    numbers: Int64[np.ndarray, " m"]
    pixels: Int64[np.ndarray, " m"]


def pool_in_masks(
    features: Float32[np.ndarray, "v y x d"], masks: Int32[np.ndarray, "v h w"]
) -> PooledMasks:
    """The mean feature over the pixels of each mask, each pixel having that of the cell it is in.

    Cells cover the view evenly and a mask is a number from 0 on; -1 is none. Order: by view, then
    by number. This is mask pooling as OpenSeg and EmbodiedSplat do it (arXiv 2603.04254).
    """
    views, rows, columns = masks.shape
    down = (np.arange(rows) * 2 + 1) * features.shape[1] // (2 * rows)
    across = (np.arange(columns) * 2 + 1) * features.shape[2] // (2 * columns)
    cells = down[:, None] * features.shape[2] + across
    parts = []
    for view in range(views):
        inside = masks[view] > NO_ID
        # One number for a mask and a cell, so that equal pairs are counted by sorting integers.
        keys = masks[view][inside].astype(np.int64) * cells.size + cells[inside]
        pairs, counts = np.unique(keys, return_counts=True)
        numbers, which = np.unique(pairs // cells.size, return_inverse=True)
        vectors = features[view].reshape(-1, features.shape[3])[pairs % cells.size]
        sums = np.zeros((len(numbers), features.shape[3]))
        np.add.at(sums, which, vectors * counts[:, None])
        pixels = np.bincount(which, counts, len(numbers)).astype(np.int64)
        parts.append((sums, np.full(len(numbers), view, np.int64), numbers, pixels))
    sums, of_view, numbers, pixels = map(np.concatenate, zip(*parts, strict=True))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    unit = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    return PooledMasks(unit.astype(np.float32), of_view, numbers, pixels)


def masks_of_views(
    images: UInt8[np.ndarray, "v h w 3"], generator: Any, smallest: int = 64
) -> Int32[np.ndarray, "v h w"]:
    """Numbered masks of photos: where several lie over each other, the smallest is seen.

    `generator.generate(image)` gives mappings with a Boolean "segmentation", as SAM 2's automatic
    generator does. Masks of fewer than `smallest` pixels are left out. Numbers never repeat.
    """
    numbered = np.full(images.shape[:3], NO_ID, np.int32)
    count = 0
    for image, view in zip(images, numbered, strict=True):
        segments = [np.asarray(mask["segmentation"], bool) for mask in _listed(generator, image)]
        for segment in sorted(segments, key=np.count_nonzero, reverse=True):
            if segment.shape != view.shape:
                raise UsageError(f"a mask of {segment.shape} for a photo of {view.shape}")
            if np.count_nonzero(segment) >= smallest:
                view[segment] = count
                count += 1
    return numbered


def _listed(generator: Any, image: UInt8[np.ndarray, "h w 3"]) -> Iterable[Mapping[str, Any]]:
    return generator.generate(image)


def sam2_of_file(weights: Path, device: str = "cpu") -> Any:
    """SAM 2's generator for a file that is called as its authors call their weights.

    Raises UsageError for another name, such as one that is not "sam2.1_hiera_small.safetensors";
    and as `sam2_generator`.
    """
    version, _, size = weights.stem.partition("_hiera_")
    if version not in ("sam2", "sam2.1") or size not in SAM2_SIZES:
        raise UsageError(
            f"{weights.name} does not say which network of SAM 2 it is",
            f"call it sam2.1_hiera_SIZE.safetensors, SIZE one of {', '.join(SAM2_SIZES)}",
        )
    config = f"configs/{version}/{version}_hiera_{SAM2_SIZES[size]}.yaml"
    return sam2_generator(config, weights, device)


def sam2_generator(config: str, weights: Path, device: str = "cpu", **options: Any) -> Any:
    """SAM 2's generator of masks, from a safetensors file with the tensors of its `model`.

    `config` is one of the package's own, such as "configs/sam2.1/sam2.1_hiera_s.yaml"; `options` go
    to its SAM2AutomaticMaskGenerator. Raises UsageError where the package is not installed, and
    CheckpointError for weights that are a pickle or do not fit.
    """
    try:
        from sam2.automatic_mask_generator import (  # pyright: ignore[reportMissingImports]
            SAM2AutomaticMaskGenerator,
        )
        from sam2.build_sam import build_sam2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError(
            "masks need the package sam2, which is not installed",
            "https://github.com/facebookresearch/sam2 says how; Apache-2.0",
        ) from error
    from ffsplat.weights import read_weights, refuse_pickle

    refuse_pickle(weights)
    if not weights.is_file():
        raise CheckpointError(f"{weights} is not a safetensors file")
    model = build_sam2(config, ckpt_path=None, device=device)
    model.load_state_dict(read_weights(weights, model.state_dict()), strict=True)
    return SAM2AutomaticMaskGenerator(model, **options)
