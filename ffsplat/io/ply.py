"""Scenes as 3DGS PLY files: float columns that every viewer reads, ours after theirs.

One element, all float32 little-endian, comments last: the largest set of features that thirteen
independent readers share. On disk scales are natural logarithms, opacities are logits, and the
higher SH coefficients stand channel by channel (Kerbl et al. 2023, reference exporter).
"""

import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float16, Float32, Int16

from ffsplat.codebook import gram
from ffsplat.codes import norm
from ffsplat.errors import OutputError, SceneFileError
from ffsplat.io.atomic import atomic_output
from ffsplat.io.codebook_file import CodebookReference, find_codebook, read_codebook
from ffsplat.io.header import Element, Header, comment_lines, open_regular, printable, read_header
from ffsplat.io.layout import (
    BLOCK_ROWS,
    COLOR,
    INSTANCE,
    MAX_ROWS,
    MAX_THREADS,
    MEANING_OPACITY,
    POSITION,
    ROTATION,
    SCALE,
    SH_COUNTS,
    Columns,
    Fault,
    Layout,
    RowChecks,
    blocks,
    columns,
    describe_faults,
    layout_of,
    spans,
)
from ffsplat.types import Codebook, Gaussians, Scene, SparseCode

_log = logging.getLogger(__name__)

Profile = Literal["ffsplat", "plain", "inria"]

MAX_OUR_HEADER = 10_240
"""Bytes; two viewers look for the end of the header no further."""

FORMAT_NOTES = ("format", "codebook", "metric")
"""Keys of `comment ffsplat.<key>` that are not provenance."""

MAX_GRAM = 4096
"""Codebook rows up to which all inner products fit in memory (64 MB)."""

_OPACITY = np.array([1e-6, 1 - 1e-6], np.float32)
_TINY = np.finfo(np.float32).tiny


def write_ply(
    scene: Scene,
    path: str | Path,
    *,
    profile: Profile = "ffsplat",
    overwrite: bool = False,
    codebook: CodebookReference | None = None,
) -> None:
    """Write a scene as PLY.

    `profile`: "ffsplat" is everything; "plain" leaves out all that is not colour; "inria" is the
    fixed 62 columns without comments. `codebook` is what the header says about the sidecar.
    Raises OutputError as `atomic_output`, and for a scene that the format cannot hold.
    """
    encoded = encode_ply(scene, profile, codebook)
    with atomic_output(path, overwrite, encoded.size) as file:
        encoded.write(file)


class EncodedPly(NamedTuple):
    """A file to be: its header, its body in blocks made one by one, and its size in bytes."""

    header: bytes
    body: Iterator[memoryview]
    size: int

    def write(self, file: BinaryIO) -> None:
        """Write it all, once."""
        file.write(self.header)
        for block in self.body:
            file.write(block)


def encode_ply(
    scene: Scene, profile: Profile = "ffsplat", codebook: CodebookReference | None = None
) -> EncodedPly:
    """Prepare a scene for writing; arguments and errors as `write_ply`."""
    coefficients = scene.gaussians.sh.shape[1]
    if not len(scene):
        raise OutputError("the scene has no Gaussians; most readers refuse an empty file")
    if coefficients not in SH_COUNTS:
        raise OutputError(f"{coefficients} SH coefficients, not 1, 4, 9 or 16")
    layout = Layout(16 if profile == "inria" else coefficients)
    if profile == "ffsplat":
        codes = 0 if scene.codes is None else scene.codes.ids.shape[1]
        meaning = scene.gaussians.meaning_opacities is not None
        layout = Layout(layout.sh, codes, scene.instances is not None, meaning)
    rows = codebook.size if codebook else MAX_ROWS
    header = _header(scene, layout, profile, codebook)
    size = len(header) + 4 * len(scene) * len(layout.names)
    return EncodedPly(header, _body(scene, layout, rows), size)


def _body(scene: Scene, layout: Layout, codebook_rows: int) -> Iterator[memoryview]:
    block = np.zeros((min(BLOCK_ROWS, len(scene)), len(layout.names)), "<f4")
    vertex = Element("vertex", len(scene), tuple((name, "float") for name in layout.names))
    checks = RowChecks(vertex, layout, codebook_rows)
    for start in range(0, len(scene), BLOCK_ROWS):
        rows = block[: len(scene) - start]
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN is refused just below
            _encode(scene[start : start + BLOCK_ROWS], layout, rows)
        if faults := checks.count(rows):
            raise OutputError(f"the scene cannot be written: {describe_faults(faults)}")
        yield rows.view(np.uint8).data


def read_ply(path: str | Path, *, codebook: str | Path | None = None) -> Scene:
    """Read a 3DGS PLY by any tool, with codes and codebook where it has them.

    The codebook is `codebook`, or the file that the header names, or
    `<stem>.codebook.safetensors`, or `codebook.safetensors` beside it; its sha256 must be the one
    in the header where there is one.
    Nothing is allocated before the header's promise is found equal to the file's size. Raises
    SceneFileError naming what is wrong.
    """
    path = Path(path)
    with open_regular(path) as file:
        header = read_header(file, path.name)
    header.check_size(path.name)
    if not header.vertex.count:
        raise SceneFileError(f"{path.name} has no Gaussians", "make the scene again with infer")
    layout = layout_of(header.vertex, path.name)
    reference = codebook_reference(header, path.name)
    explicit = None if codebook is None else Path(codebook)
    book = load_codebook(path, explicit, reference) if layout.codes or explicit else None
    limit = len(book) if book else reference.size if reference else MAX_ROWS
    checks = RowChecks(header.vertex, layout, limit, saturated=True)
    decoder = _Decoder(header, layout)

    def scan(span: slice) -> Counter[Fault]:
        faults: Counter[Fault] = Counter()
        for place, block in blocks(path, header, span):
            if found := checks.count(block):
                faults += found
            else:
                decoder.decode(place, block)
        return faults

    with ThreadPoolExecutor(MAX_THREADS) as pool:
        faults = sum(pool.map(scan, spans(header.vertex.count)), Counter())
    if faults:
        raise SceneFileError(
            f"{path.name}: of {header.vertex.count} Gaussians {describe_faults(faults)}",
            "ffsplat check lists every problem of a file",
        )
    rows = len(book) if book else 0
    _log.info("%s: %d Gaussians, %d codebook rows", path.name, header.vertex.count, rows)
    return decoder.scene(book, header)


def codebook_reference(header: Header, name: str) -> CodebookReference | None:
    """What the header says about the codebook; SceneFileError if that is malformed."""
    note = header.notes.get("codebook")
    return None if note is None else CodebookReference.parse(note, name)


def provenance(header: Header) -> dict[str, str]:
    """Model, revision, licence and the like, safe to show."""
    notes = header.notes.items()
    return {key: printable(value) for key, value in notes if key not in FORMAT_NOTES}


def _header(
    scene: Scene, layout: Layout, profile: Profile, codebook: CodebookReference | None
) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(scene)}"]
    lines += [f"property float {name}" for name in layout.names]
    if profile != "inria":
        lines.append("comment ffsplat.format 1")
        if codebook is not None and layout.codes:
            lines.append(f"comment ffsplat.codebook {codebook.note()}")
        lines.append(f"comment ffsplat.metric {str(scene.metric).lower()}")
        lines += comment_lines(
            {key: value for key, value in scene.provenance.items() if key not in FORMAT_NOTES}
        )
        lines.append("comment SplatRenderMode: default")
    head = "\n".join([*lines, "end_header", ""]).encode("ascii")
    if len(head) > MAX_OUR_HEADER:
        raise OutputError(
            f"a header of {len(head)} bytes is more than some viewers read ({MAX_OUR_HEADER})",
            "shorten the scene's provenance",
        )
    return head


def _encode(scene: Scene, layout: Layout, rows: Float32[np.ndarray, "rows columns"]) -> None:
    """Fill rows in the order of `layout.names`; normals stay zero."""
    gaussians, rest = scene.gaussians, layout.sh - 1
    rows[:, 0:3] = gaussians.means
    rows[:, 6:9] = gaussians.sh[:, 0]
    for channel in range(3):
        first = 9 + channel * rest
        rows[:, first : first + gaussians.sh.shape[1] - 1] = gaussians.sh[:, 1:, channel]
    at = 9 + 3 * rest
    rows[:, at] = _logit(gaussians.opacities)
    rows[:, at + 1 : at + 4] = np.log(np.maximum(gaussians.scales, _TINY), dtype=np.float64)
    rows[:, at + 4 : at + 8] = _unit(gaussians.quaternions_wxyz)
    at += 8
    if layout.codes and scene.codes is not None:
        rows[:, at : at + layout.codes] = scene.codes.ids
        rows[:, at + layout.codes : at + 2 * layout.codes] = scene.codes.weights
    at += 2 * layout.codes
    if layout.instances and scene.instances is not None:
        rows[:, at] = scene.instances
    if layout.meaning:
        rows[:, -1] = _logit(gaussians.opacities_of_meaning)


class _Decoder:
    """Takes the columns of a file apart into contiguous arrays, block by block."""

    def __init__(self, header: Header, layout: Layout):
        vertex, n = header.vertex, header.vertex.count
        self.layout = layout
        self.means = np.empty((n, 3), np.float32)
        self.scales = np.empty((n, 3), np.float32)
        self.quaternions_wxyz = np.empty((n, 4), np.float32)
        self.opacities = np.empty(n, np.float32)
        self.sh = np.empty((n, layout.sh, 3), np.float32)
        self.ids = np.empty((n, layout.codes), np.int16)
        self.weights = np.empty((n, layout.codes), np.float16)
        self.instances = np.empty(n if layout.instances else 0, np.int32)
        self.meaning_opacities = np.empty(n if layout.meaning else 0, np.float32)
        groups = {
            "position": POSITION,
            "color": COLOR,
            "opacity": ("opacity",),
            "scale": SCALE,
            "rotation": ROTATION,
            "rest": layout.rest,
            "ids": layout.ids,
            "weights": layout.weights,
            "instance": (INSTANCE,) if layout.instances else (),
            "meaning": (MEANING_OPACITY,) if layout.meaning else (),
        }
        self.columns: dict[str, Columns] = {
            group: columns(vertex, names) for group, names in groups.items() if names
        }

    def decode(self, place: slice, block: Float32[np.ndarray, "rows properties"]) -> None:
        """Convert one block in which `RowChecks` found no fault."""
        take = {group: block[:, chosen] for group, chosen in self.columns.items()}
        self.means[place] = take["position"]
        self.sh[place, 0] = take["color"]
        for channel in range(3 if "rest" in take else 0):
            rest = self.layout.sh - 1
            self.sh[place, 1:, channel] = take["rest"][:, channel * rest : (channel + 1) * rest]
        self.opacities[place] = _sigmoid(take["opacity"][:, 0])
        self.scales[place] = np.maximum(np.exp(take["scale"], dtype=np.float64), _TINY)
        self.quaternions_wxyz[place] = _unit(take["rotation"])
        if "ids" in take:
            self.ids[place] = take["ids"]
            self.weights[place] = take["weights"]
        if "instance" in take:
            self.instances[place] = take["instance"][:, 0]
        if "meaning" in take:
            self.meaning_opacities[place] = _sigmoid(take["meaning"][:, 0])

    def scene(self, codebook: Codebook | None, header: Header) -> Scene:
        """The whole scene, once every block is decoded."""
        gaussians = Gaussians(
            self.means,
            self.scales,
            self.quaternions_wxyz,
            self.opacities,
            self.sh,
            self.meaning_opacities if self.layout.meaning else None,
        )
        codes = None
        if self.layout.codes:
            codes = with_norms(self.ids, self.weights, codebook)
        return Scene(
            gaussians,
            codes,
            self.instances if self.layout.instances else None,
            codebook,
            metric=header.notes.get("metric") == "true",
            provenance=provenance(header),
        )


def load_codebook(
    path: Path, explicit: Path | None, reference: CodebookReference | None
) -> Codebook | None:
    """The codebook of a scene file, None without one; SceneFileError if it is not the right one."""
    found = find_codebook(path, explicit, reference)
    if found is None:
        return None
    book = read_codebook(found, reference.sha256 if reference else None)
    if reference is not None and reference.size != len(book):
        raise SceneFileError(f"{found} has {len(book)} rows, {path.name} needs {reference.size}")
    return book


def with_norms(
    ids: Int16[np.ndarray, "n k"], weights: Float16[np.ndarray, "n k"], codebook: Codebook | None
) -> SparseCode:
    """Codes with their lengths in the first space; as for orthonormal rows if there is none."""
    bare = SparseCode(ids, weights, np.zeros(len(ids), np.float16))
    return SparseCode(ids, weights, _lengths(bare, codebook).astype(np.float16))


def _lengths(bare: SparseCode, codebook: Codebook | None) -> Float[np.ndarray, " n"]:
    if codebook is None:
        return norm(bare)
    space = next(iter(codebook.spaces))
    if len(codebook) <= MAX_GRAM:
        products = gram(codebook, space)
        orthonormal = np.array_equal(products, np.eye(len(codebook)))
        return norm(bare, None if orthonormal else products)
    table, result = codebook.spaces[space].astype(np.float32), np.zeros(len(bare), np.float32)
    for start in range(0, len(bare), 4096):
        rows = slice(start, start + 4096)
        weights = bare.weights[rows].astype(np.float32)
        coded = np.einsum("nk,nkd->nd", weights, table[bare.ids[rows]])
        result[rows] = np.linalg.norm(coded, axis=1)
    return result


def _logit(opacities: Float32[np.ndarray, " n"]) -> np.ndarray:
    clamped = np.clip(opacities, _OPACITY[0], _OPACITY[1]).astype(np.float64)
    return np.log(clamped / (1 - clamped))


def _sigmoid(logits: Float32[np.ndarray, " n"]) -> np.ndarray:
    with np.errstate(over="ignore"):  # exp(-x) = inf gives opacity 0, which is right
        return 1 / (1 + np.exp(-logits.astype(np.float64)))


def _unit(quaternions: Float32[np.ndarray, "n 4"]) -> np.ndarray:
    """Normalised, except where already unit to rounding: a copy of a copy stays the same."""
    squared = np.einsum("nk,nk->n", quaternions, quaternions)
    off = (np.abs(squared - 1) > 1e-6) & (squared > 0)
    if not off.any():
        return quaternions
    result = quaternions.astype(np.float32)
    result[off] /= np.linalg.norm(result[off].astype(np.float64), axis=1, keepdims=True)
    return result
