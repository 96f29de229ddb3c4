"""Photos in, `Views` out: find the files, read each one, place all on one common canvas."""

import glob
import hashlib
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from ffsplat.decode import HEIC_HINT, Photo, file_reason, heic_readable, read_photo
from ffsplat.errors import ImageError, UsageError
from ffsplat.types import Views, ViewSource

EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "avif", "jp2")
"""What counts as a photo in a folder; a file that is named itself may have any extension."""

HEIC_EXTENSIONS = ("heic", "heif")

MAX_LISTED = 5
"""Messages name this many files and count the others."""

ImageInput = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class Skipped:
    """A photo that was left out, why in a few words, and what could be done about it."""

    name: str
    reason: str
    hint: str | None = None


@dataclass(frozen=True, eq=False)
class LoadedViews:
    """What `load_views` returns; `warnings` speak of photos that were used all the same."""

    views: Views
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """The photos meant by files, folders (first level, known extensions) and glob patterns.

    Inputs keep their order; a folder or pattern is sorted naturally: frame_2 before frame_10. No
    file is opened here. Raises ImageError if an input does not exist or holds no photo.
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    return [path for one in inputs for path in _find(os.fspath(one))]


def load_views(
    inputs: Sequence[ImageInput],
    *,
    resolution: int = 128,
    patch: int = 8,
    on_error: Literal["skip", "fail"] = "skip",
    max_views: int | None = None,
    max_megapixels: int | float = 64,
) -> LoadedViews:
    """Read photos into views for a network, without cropping any of them.

    `inputs` mixes what `find_images` takes with PIL images and arrays of (h, w), (h, w, 3) or
    (h, w, 4) values (uint8, uint16, or float in [0, 1]). Each photo is turned upright, and resized
    so that its longer side is `resolution` and both sides are whole patches; it lies in the top
    left corner of its view, and the rest of the canvas is invalid. Transparent photos lie on white.
    A view takes 13 bytes a pixel. `max_views` keeps that many photos, evenly spaced.

    Raises UsageError for impossible options and ImageError if an input does not exist, no photo can
    be read, or, with on_error="fail", any photo cannot be read. Above 178 megapixels Pillow's own
    limit (PIL.Image.MAX_IMAGE_PIXELS) refuses a file too.
    """
    if not 0 < patch <= resolution:
        raise UsageError(f"resolution {resolution} holds no whole patch of {patch} pixels")
    if max_views is not None and max_views < 1:
        raise UsageError(f"max_views is {max_views}, expected at least 1")
    sources, notes = _choose(_expand(inputs), max_views)
    names = _names(sources)

    def read(source: Path | Image.Image | np.ndarray, name: str) -> Photo | Skipped:
        try:
            return read_photo(source, resolution, patch, max_megapixels)
        except ImageError as error:
            if on_error == "fail":
                raise ImageError(f"cannot read {name}: {error}", error.hint) from error
            return Skipped(name, str(error), error.hint)

    # Pillow warns on the terminal about files that are refused, or read well, here.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        warnings.filterwarnings("ignore", module="PIL")
        outcomes = list(pool.map(read, sources, names))
    return _gather(sources, names, outcomes, notes)


def original_intrinsics(
    views: Views, intrinsics: Float[np.ndarray, "v 3 3"]
) -> Float32[np.ndarray, "v 3 3"]:
    """Intrinsics in view pixels -> intrinsics in pixels of the upright original photos."""
    original_from_view = np.stack([source.original_from_view for source in views.sources])
    return (original_from_view @ intrinsics).astype(np.float32)


def _find(text: str) -> list[Path]:
    """The photos that one file, folder or pattern stands for."""
    if not text or "\0" in text:
        raise ImageError(f"{_printable(text)!r} is no path")
    path = Path(text)
    try:
        path.lstat()
    except OSError as error:
        if glob.has_magic(text):
            return _matches(text)
        raise ImageError(f"cannot read {_printable(text)}: {file_reason(error)}") from error
    return _in_folder(path) if _is_folder(path) else [path]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # behind a link that may not be followed; reading it will say so
        return False


def _matches(pattern: str) -> list[Path]:
    # Path.glob takes no absolute pattern.
    found = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    files = [path for path in found if not _is_folder(path)]
    if not files:
        raise ImageError(f"no images match {_printable(pattern)}", "check folder and pattern")
    return sorted(files, key=_natural)


def _in_folder(folder: Path) -> list[Path]:
    name = _printable(f"{folder}/")
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise ImageError(f"cannot read {name}: {file_reason(error)}") from error
    by_extension = defaultdict(list)
    for path in paths:
        by_extension[path.suffix[1:].lower()].append(path)
    heic = [path for extension in HEIC_EXTENSIONS for path in by_extension[extension]]
    photos = [path for extension in EXTENSIONS for path in by_extension[extension]]
    if not photos and not (heic and heic_readable()):
        extensions = EXTENSIONS + (HEIC_EXTENSIONS if heic_readable() else ())
        raise ImageError(
            f"no images found in {name} (looked for {' '.join(extensions)})",
            _empty_folder_hint(folder, heic, paths),
        )
    return sorted(photos + heic, key=_natural)


def _empty_folder_hint(folder: Path, heic: list[Path], paths: list[Path]) -> str:
    if heic:
        return f"{len(heic)} {heic[0].suffix} files were seen; {HEIC_HINT}"
    if any(_is_folder(path) for path in paths):
        return f"folders in it are not searched; try '{_printable(str(folder / '*' / '*.jpg'))}'"
    return "give the folder in which the photos are"


def _natural(path: Path) -> tuple[list[list[str | int]], str]:
    """Sort key that compares runs of digits by value, folder by folder; then the plain name."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in path.parts]
    return [[int(p) if i % 2 else p for i, p in enumerate(part)] for part in parts], path.name


def _expand(inputs: Sequence[ImageInput]) -> list[Path | Image.Image | np.ndarray]:
    """Paths become the files they stand for, images in memory stay, in the order of `inputs`."""
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    sources: list[Path | Image.Image | np.ndarray] = []
    for one in inputs:
        if isinstance(one, str | Path):
            sources += find_images([one])
        elif isinstance(one, Image.Image | np.ndarray):
            sources.append(one)
        else:
            raise UsageError(f"{type(one).__name__} is neither a path nor a PIL image nor an array")
    if not sources:
        raise ImageError("no images were given")
    return sources


def _choose(sources: list, max_views: int | None) -> tuple[list, list[str]]:
    if max_views is None or len(sources) <= max_views:
        return sources, []
    rows = np.linspace(0, len(sources) - 1, max_views).round().astype(int)
    return [sources[row] for row in rows], [
        f"used {max_views} of {len(sources)} images, evenly spaced"
    ]


def _gather(
    sources: list[Path | Image.Image | np.ndarray],
    names: list[str],
    outcomes: list[Photo | Skipped],
    notes: list[str],
) -> LoadedViews:
    """Views of the photos that could be read; ImageError if there is none."""
    skipped = tuple(outcome for outcome in outcomes if isinstance(outcome, Skipped))
    rows = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Photo)]
    photos = [outcome for outcome in outcomes if isinstance(outcome, Photo)]
    if not photos:
        reasons = _shortened([f"{one.name} ({one.reason})" for one in skipped])
        raise ImageError(f"no image could be read: {reasons}", skipped[0].hint)
    names = [names[row] for row in rows]
    left_out = [f"{n}: {photo.note}" for n, photo in zip(names, photos, strict=True) if photo.note]
    repeats = _repeats([sources[row] for row in rows], names)
    return LoadedViews(_on_canvas(photos, names), skipped, (*notes, *left_out, *repeats))


def _names(sources: list[Path | Image.Image | np.ndarray]) -> list[str]:
    """File names, with their folders where two are the same; a number for images in memory."""
    seen = Counter(source.name for source in sources if isinstance(source, Path))
    return [
        _printable(source.name if seen[source.name] == 1 else source.as_posix())
        if isinstance(source, Path)
        else f"image {i}"
        for i, source in enumerate(sources)
    ]


def _printable(text: str) -> str:
    """File names may hold bytes that are no text, line breaks and terminal commands."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _shortened(texts: list[str]) -> str:
    """The first few, and how many more there are."""
    rest = f" and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
    return ", ".join(texts[:MAX_LISTED]) + rest


def _repeats(sources: list[Path | Image.Image | np.ndarray], names: list[str]) -> list[str]:
    """One warning if some files hold the same bytes; only files of one size are compared."""
    by_size = defaultdict(list)
    for source, name in zip(sources, names, strict=True):
        if isinstance(source, Path):
            by_size[source.stat().st_size].append((source, name))
    first: dict[bytes, str] = {}
    repeats = []
    for files in by_size.values():
        for path, name in files if len(files) > 1 else ():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "blake2b").digest()
            if digest in first:
                repeats.append(f"{name} (as {first[digest]})")
            first.setdefault(digest, name)
    return [f"files with the same content: {_shortened(repeats)}"] if repeats else []


def thumbnail(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "16 16"]:
    """A photo in grey, squeezed to 16 x 16 by means over its pixels."""
    return np.asarray(Image.fromarray(pixels).convert("L").resize((16, 16), Image.Resampling.BOX))


def thumbnails_of(views: Views) -> UInt8[np.ndarray, "v 16 16"]:
    """The thumbnail of each view, without the part of the canvas beside it."""
    small = []
    for pixels, source in zip(views.pixels, views.sources, strict=True):
        across, down = np.rint(
            [source.width, source.height] / np.diag(source.original_from_view)[:2]
        )
        part = pixels[: max(1, int(down)), : max(1, int(across))]
        small.append(thumbnail(np.rint(255 * part).astype(np.uint8)))
    return np.stack(small)


def _centred(photo: Photo) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of the upright original, the principal point in its middle."""
    focal_x, focal_y = photo.focal or (np.nan, np.nan)
    return np.array([[focal_x, 0, photo.width / 2], [0, focal_y, photo.height / 2], [0, 0, 1]])


def _on_canvas(photos: list[Photo], names: list[str]) -> Views:
    """Place every photo in the top left corner of the smallest canvas that holds them all."""
    height = max(photo.pixels.shape[0] for photo in photos)
    width = max(photo.pixels.shape[1] for photo in photos)
    pixels = np.zeros((len(photos), height, width, 3), np.float32)
    valid = np.zeros(pixels.shape[:3], bool)
    intrinsics = np.full((len(photos), 3, 3), np.nan, np.float32)
    sources = []
    for i, (photo, name) in enumerate(zip(photos, names, strict=True)):
        down, across = photo.opaque.shape
        valid[i, :down, :across] = photo.opaque
        np.divide(photo.pixels, np.float32(255), out=pixels[i, :down, :across])
        pixels[i, ~valid[i]] = 0
        original_from_view = np.diag([photo.width / across, photo.height / down, 1.0])
        sources.append(ViewSource(name, photo.width, photo.height, original_from_view))
        if photo.focal:  # else the whole matrix stays NaN
            intrinsics[i] = np.linalg.inv(original_from_view) @ _centred(photo)
    return Views(pixels, valid, intrinsics, tuple(sources))
