"""Checkpoints of LangSplat and LangSplatV2, with what each learns of language as codes.

Source: their scene/gaussian_model.py. `chkpntN.pth` holds what `capture` returns, and the
iteration: 13 values with a latent for each Gaussian (`langsplat_decoder`), or 14 with its logits
and their codebook (`langsplat_v2`). A checkpoint holds one of three levels, in folders NAME_1
(small), NAME_2 (middle) and NAME_3 (large); all that are there become one scene of three levels,
the small one's rows subparts, the middle one's parts, the large one's things.
"""

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ffsplat.codebook import code_gram
from ffsplat.codes import MAX_ROWS, from_pairs
from ffsplat.errors import SceneFileError, UsageError
from ffsplat.formats.foreign import side_file
from ffsplat.formats.langsplat_decoder import FILES, MAX_LATENT, decoded_codes, read_decoder
from ffsplat.formats.langsplat_v2 import MAX_CODES, check_logits, sparse_codes
from ffsplat.formats.packing import Parts, readable
from ffsplat.io.layout import SH_COUNTS
from ffsplat.semantics.bank import nameless
from ffsplat.types import ASKED_LEVELS, LEVELS, Codebook, Gaussians, Scene, SparseCode

SHAPE = 6
"""Tensors of position, colour, detail, scale, rotation and opacity, after the degree of SH."""

LEARNT = {13: 1, 14: 2}
"""Tensors of language that follow, by how many values were captured: LangSplat, LangSplatV2."""

LARGEST = 1e15
"""Of any number: squares of it are still finite in float32."""

LARGE = 3
"""The number of their level of large segments."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Checkpoint:
    """One level: tensors of the Gaussians, and of language: latents, or logits and rows."""

    shape: list[np.ndarray]
    learnt: list[np.ndarray]


def read(path: str | Path, *, codebook: str | Path | None = None) -> Scene:
    """Read a checkpoint, and those of the other levels in the folders beside its own, as a scene.

    `codebook` is the file of LangSplat's autoencoder, looked for where `langsplat_decoder.FILES`
    says; without it latents are clustered as they are, and no text can be asked. Nothing of a file
    is run; see `ffsplat.weights.foreign`. Raises CheckpointError for a file that is refused,
    SceneFileError for one that is no such checkpoint, or for levels of different Gaussians, and
    UsageError for an autoencoder that LangSplatV2 does not have.
    """
    path = Path(path)
    files = level_files(path)
    if len(files) > 1:
        _log.info("levels %s of one scene are read together", " ".join(map(str, files)))
    first, parts, provenance = None, [], {}
    for level, file in files.items():
        found = _checkpoint(file)
        first = first or found
        same = len(found.learnt) == len(first.learnt)
        if not same or not np.array_equal(found.shape[0], first.shape[0]):
            raise SceneFileError(f"{file} has other Gaussians than {files[min(files)]}")
        codes, book, provenance = _meaning(found, path, codebook)
        kind = ASKED_LEVELS[0] if len(files) == 1 else ASKED_LEVELS[LARGE - level]
        levels = np.full(len(book), LEVELS.index(kind), np.int8)
        parts.append((codes, replace(book, levels=levels)))
    assert first is not None
    codes, book = parts[0] if len(parts) == 1 else _joined(parts)
    gaussians = _gaussians(first.shape, path.name)
    return Scene(gaussians, codes, codebook=book, provenance=provenance)


def _meaning(
    found: _Checkpoint, path: Path, codebook: str | Path | None
) -> tuple[SparseCode, Codebook, dict[str, str]]:
    """Codes and codebook of a level, and what the scene's provenance says of them."""
    if len(found.learnt) == 2:
        if codebook is not None:
            raise UsageError("LangSplatV2 has its codebook in the checkpoint, and none beside it")
        return *sparse_codes(*found.learnt), {"model": "LangSplatV2"}
    (latents,) = found.learnt
    file = side_file(path, codebook, FILES)
    if file is None:
        _log.warning("no autoencoder (%s) is near %s: no text can be asked", FILES[1], path)
    layers = () if file is None else read_decoder(file, latents.shape[1])
    made = decoded_codes(latents, layers)
    note = {"model": "LangSplat", "codes": f"mean cosine {made.cosine:.3f}"}
    return made.codes, made.codebook, note


def level_files(path: Path) -> dict[int, Path]:
    """The checkpoints of all levels of a scene by number, from the path of one of them.

    Levels lie in NAME_1, NAME_2 and NAME_3 under one file name; any other path is level LARGE.
    """
    folder = path.absolute().parent
    if not (match := re.fullmatch(r"(.*)_([123])", folder.name)):
        return {LARGE: path}
    others = {n: folder.with_name(f"{match[1]}_{n}") / path.name for n in (1, 2, 3)}
    return {n: file for n, file in others.items() if n == int(match[2]) or file.is_file()}


def _joined(parts: list[tuple[SparseCode, Codebook]]) -> tuple[SparseCode, Codebook]:
    """Codes of several levels as one, each with the same share of the weight."""
    starts = np.cumsum([0, *(len(book) for _, book in parts)])
    pairs = zip(parts, starts[:-1], strict=True)
    ids = [np.where(code.ids < 0, -1, code.ids + start) for (code, _), start in pairs]
    weights = [code.weights.astype(np.float32) for code, _ in parts]
    tables = [next(iter(book.spaces.values())).astype(np.float32) for _, book in parts]
    if len({table.shape[1] for table in tables}) > 1:
        raise SceneFileError("levels have features of different sizes")
    space = next(iter(parts[0][1].spaces))
    counts = np.concatenate([book.counts for _, book in parts])
    codebook = nameless(counts, np.concatenate(tables), space)
    codebook = replace(codebook, levels=np.concatenate([book.levels for _, book in parts]))
    width = sum(one.shape[1] for one in ids)
    if width > MAX_CODES or len(codebook) > MAX_ROWS:
        raise SceneFileError(f"levels have {width} codes and {len(codebook)} rows together")
    gram = code_gram(codebook)
    return from_pairs(np.concatenate(ids, 1), np.concatenate(weights, 1), width, gram), codebook


def _checkpoint(path: Path) -> _Checkpoint:
    import torch

    from ffsplat.weights.foreign import check_tensors, load_restricted

    match load_restricted(path, numpy_scalars=True):
        case (tuple() | list() as captured, int(_)) if len(captured) in LEARNT:
            values = list(captured[1 : 1 + SHAPE + LEARNT[len(captured)]])
        case _:
            raise SceneFileError(
                f"{path} is no checkpoint of LangSplat or LangSplatV2 with language features",
                "give one that was trained with --include_feature",
            )
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise SceneFileError(f"{path}: its Gaussians are not tensors")
    check_tensors(path, {str(i): value for i, value in enumerate(values)})
    arrays = [value.detach().float().numpy() for value in values]
    found = _Checkpoint(arrays[:SHAPE], arrays[SHAPE:])
    _check(path, found)
    return found


def _check(path: Path, found: _Checkpoint) -> None:
    """SceneFileError unless the tensors have the shapes of one scene."""
    xyz, dc, rest, scaling, rotation, opacity = found.shape
    n = len(xyz)
    shapes = (xyz.shape, dc.shape, scaling.shape, rotation.shape, opacity.shape)
    fits = shapes == ((n, 3), (n, 1, 3), (n, 3), (n, 4), (n, 1)) and n > 0
    fits = fits and rest.ndim == 3 and rest.shape[::2] == (n, 3) and rest.shape[1] + 1 in SH_COUNTS
    if len(found.learnt) == 1:
        (latents,) = found.learnt
        fits = fits and latents.ndim == 2 and len(latents) == n
        fits = fits and 0 < latents.shape[1] <= MAX_LATENT
    if not fits:
        raise SceneFileError(f"{path}: its tensors do not fit together")
    if len(found.learnt) == 2:
        check_logits(path, n, *found.learnt)
    if not all((np.abs(array) < LARGEST).all() for array in (*found.shape, *found.learnt)):
        raise SceneFileError(f"{path} has values that are not finite, or too large")


def _gaussians(tensors: list[np.ndarray], name: str) -> Gaussians:
    """The Gaussians that the parameters stand for; SceneFileError as `readable`."""
    xyz, dc, rest, scaling, rotation, opacity = tensors
    with np.errstate(over="ignore"):
        scales = np.exp(scaling)
        opacities = 1 / (1 + np.exp(-opacity[:, 0].astype(np.float64)))
    sh = np.concatenate([dc, rest], axis=1)
    return readable(Parts(xyz.copy(), scales, rotation, opacities, sh), name)
