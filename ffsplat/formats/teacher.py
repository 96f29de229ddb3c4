"""A training set of a scene, for those who refine scenes by optimisation.

The folder is one that LangSplat (Qin et al., 2024) and the recipes of gsplat read:

- `images/NAME.png`, photos, or renders of the scene where there are none;
- `sparse/0`, a COLMAP model of the cameras and Gaussians;
- `language_features/NAME_s.npy`, float32 (4, h, w): the segment of each pixel at the levels
  default, small, middle and large, numbered through all levels, -1 for none; and `NAME_f.npy`,
  float32 (segments, d): the feature of each, of length 1 (its preprocess.py, `sava_numpy`);
- `codes/NAME.npy`, int16 (2, h, w): our codebook rows, of things and of parts, -1 for none;
- `point_cloud.ply`, the Gaussians in the columns of the reference 3DGS;
- `codebook.safetensors`, and `teacher.json`, which says where all this is from.

A segment is where one codebook row has the largest blended weight. Things are LangSplat's default
and large segments, subparts its small ones, or parts where there is none; its middle ones are
parts, or things where there is none.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int16, UInt8
from PIL import Image

from ffsplat.codebook import asked_levels
from ffsplat.decode import read_photo, view_size
from ffsplat.errors import ImageError
from ffsplat.formats.cameras import cameras_of, resized
from ffsplat.formats.colmap import model_of
from ffsplat.formats.colmap_model import binary_files
from ffsplat.formats.maps import rows_of
from ffsplat.io.codebook_file import codebook_bytes
from ffsplat.io.folder import atomic_folder, check_folder
from ffsplat.io.ply import encode_ply
from ffsplat.types import ASKED_LEVELS, NO_ID, Cameras, Scene

LANGSPLAT_SIZE = 512
"""Numbers in a feature that LangSplat's autoencoder takes."""

LONGEST = 1080
"""Longest side of an image by default: LangSplat and 3DGS make larger ones smaller themselves."""

MODEL = ("sparse/0/cameras.bin", "sparse/0/images.bin", "sparse/0/points3D.bin")


@dataclass(frozen=True)
class Teacher:
    """What was written: where, how many views, the space of features and their size."""

    folder: Path
    views: int
    space: str
    size: int
    photos: bool


def write_teacher(
    scene: Scene,
    path: str | Path,
    *,
    images: str | Path | None = None,
    space: str = "",
    longest: int = LONGEST,
    tracks: bool = True,
    overwrite: bool = False,
) -> Teacher:
    """Write the folder `path` of all views; `images` is the folder of the photos.

    Views are at most `longest` pixels long. Features are those of `space`, the codebook's first
    one by default. Raises UsageError without cameras, codes or that space, ImageError for a photo
    that is not there or not the one of its camera, and OutputError as `atomic_folder`.
    """
    book, name, rows = rows_of(scene, space)
    original = cameras_of(scene)
    sides = [view_size(w, h, min(max(w, h), longest), 1) for w, h in original.sizes.tolist()]
    cameras = resized(original, np.array(sides, np.int32))
    stems = unique_stems(cameras.names)
    posed = replace(scene, cameras=replace(cameras, names=tuple(f"{stem}.png" for stem in stems)))
    files = _names(stems)
    check_folder(path, files, overwrite)
    sources = None if images is None else _photos(Path(images), original)
    with atomic_folder(path, files, overwrite, _size(cameras, rows.shape[1])) as folder:
        for view, stem in enumerate(stems):
            source = None if sources is None else sources[view]
            image = _image(posed, view, source, original)
            Image.fromarray(image).save(folder / f"images/{stem}.png", "PNG")
            codes = code_maps(scene, cameras[[view]])
            _save(folder / f"codes/{stem}.npy", codes)
            segments, features = language_features(codes, rows)
            _save(folder / f"language_features/{stem}_s.npy", segments)
            _save(folder / f"language_features/{stem}_f.npy", features)
        model = binary_files(model_of(posed, tracks=tracks))
        for file, content in zip(MODEL, model.values(), strict=True):
            (folder / file).write_bytes(content)
        with (folder / "point_cloud.ply").open("wb") as file:
            encode_ply(scene, "inria").write(file)
        (folder / "codebook.safetensors").write_bytes(codebook_bytes(book))
        facts = _facts(scene, original, stems, name, images is not None)
        (folder / "teacher.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    return Teacher(Path(path), len(stems), name, rows.shape[1], images is not None)


def code_maps(scene: Scene, camera: Cameras) -> Int16[np.ndarray, "levels h w"]:
    """The codebook row of a thing, and of a part, at each pixel of one camera; -1 for none.

    A third map is of subparts, where the codebook has any.
    """
    from ffsplat.render import render

    present = () if scene.codebook is None else asked_levels(scene.codebook)
    width, height = camera.sizes[0]
    count = 3 if "subpart" in present else 2
    maps = np.full((count, height, width), NO_ID, np.int16)
    for index, level in enumerate(ASKED_LEVELS):
        if level in present:
            maps[index] = render(scene, camera, "codes", level=level)[0]
    return maps


def language_features(
    codes: Int16[np.ndarray, "levels h w"], rows: Float32[np.ndarray, "rows d"]
) -> tuple[Float32[np.ndarray, "4 h w"], Float32[np.ndarray, "segments d"]]:
    """LangSplat's segment maps and features of one view, from our code maps of it.

    `rows` are the codebook's embeddings, used as they are. A view without any code has one feature
    of zeros, as the loader indexes with -1 where there is no segment.
    """
    things, parts = codes[:2]
    finest = np.where(codes[-1] == NO_ID, parts, codes[-1])
    levels = (things, finest, np.where(parts == NO_ID, things, parts), things)
    maps, features, first = [], [], 0
    for level in levels:
        present, inverse = np.unique(level, return_inverse=True)
        known = present != NO_ID
        numbers = np.where(known, first + np.cumsum(known) - 1, NO_ID)
        maps.append(numbers[inverse].reshape(level.shape))
        features.append(rows[present[known]])
        first += int(known.sum())
    listed = np.concatenate(features) if first else np.zeros((1, rows.shape[1]), np.float32)
    return np.stack(maps).astype(np.float32), listed.astype(np.float32)


def unique_stems(names: tuple[str, ...]) -> list[str]:
    """A file name for each view: its own without folders and all after the first dot.

    LangSplat and 3DGS cut names there, and read ASCII alone in COLMAP's binary files. Where two
    would be equal, or nothing is left, all get their number in front.
    """
    stems = [
        re.sub(r"[^\w-]+", "_", Path(name).name.split(".")[0], flags=re.A)[:100] for name in names
    ]
    if len(set(stems)) == len(stems) and all(stems):
        return stems
    return [f"{view:04d}_{stem}" for view, stem in enumerate(stems)]


def _names(stems: list[str]) -> list[str]:
    each = ("images/{}.png", "codes/{}.npy", "language_features/{}_s.npy")
    each = (*each, "language_features/{}_f.npy")
    views = [pattern.format(stem) for stem in stems for pattern in each]
    return [*views, *MODEL, "point_cloud.ply", "codebook.safetensors", "teacher.json"]


def _size(cameras: Cameras, dimensions: int) -> int:
    """About how many bytes the maps and features of all views take."""
    pixels = int(cameras.sizes.astype(np.int64).prod(axis=1).sum())
    return (16 + 4 + 3) * pixels + 4 * dimensions * 100 * len(cameras)


def _save(path: Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=False)


def _photos(folder: Path, cameras: Cameras) -> list[Path]:
    """The photo of each camera, under its name or the last part of it."""
    found = []
    for name in cameras.names:
        places = [folder / name, folder / Path(name).name]
        inside = [p for p in places if p.is_file() and p.resolve().is_relative_to(folder.resolve())]
        if not inside:
            raise ImageError(f"{folder} has no photo {name}")
        found.append(inside[0])
    return found


def _image(
    scene: Scene, view: int, photo: Path | None, original: Cameras
) -> UInt8[np.ndarray, "h w 3"]:
    """The photo of a view at its size, or how the scene looks from there."""
    from ffsplat.render import render
    from ffsplat.render.colors import to_bytes

    cameras = cameras_of(scene)
    if photo is None:
        return to_bytes(render(scene, cameras[[view]], "rgb")[0])
    read = read_photo(photo, int(cameras.sizes[view].max()), 1, max_megapixels=178)
    expected = tuple(original.sizes[view].tolist())
    if (read.width, read.height) != expected:
        raise ImageError(
            f"{photo} is {read.width}x{read.height}, its camera {expected[0]}x{expected[1]}",
            "give the photos that the scene was inferred from",
        )
    return read.pixels


def _facts(
    scene: Scene, cameras: Cameras, stems: list[str], space: str, photos: bool
) -> dict[str, object]:
    return {
        "format": "ffsplat.teacher 1",
        "space": space,
        "images": "photos" if photos else "renders of the scene",
        "levels": [
            "default: things",
            "small: subparts, else parts",
            "middle: parts, else things",
            "large: things",
        ],
        "views": [{"name": n, "stem": s} for n, s in zip(cameras.names, stems, strict=True)],
        "provenance": dict(scene.provenance),
    }
