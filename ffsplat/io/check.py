"""Lint a splat PLY: each rule is a construct that some reader in use gets wrong, often silently.

Sources: the loaders of SuperSplat, Spark, gsplat.js, antimatter15/splat, GaussianSplats3D, spz,
SIBR, UnityGaussianSplatting, gsply, trimesh and open3d, run or read on files with each construct.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffsplat.errors import SceneFileError
from ffsplat.io.header import Header, open_regular, read_header
from ffsplat.io.layout import (
    MAX_ROWS,
    SH_COUNTS,
    Fault,
    Layout,
    RowChecks,
    blocks,
    layout_of,
)
from ffsplat.io.ply import (
    MAX_OUR_HEADER,
    codebook_reference,
    load_codebook,
    read_ply,
)
from ffsplat.types import Scene

RULES = {
    "readable": "the file is a PLY whose header parses and whose columns make a Gaussian splat",
    "header-size": "gsplat.js and antimatter15 look for end_header in the first 10 240 bytes",
    "line-ends": "CR LF or a missing LF breaks most viewers",
    "one-element": "a second element breaks gsplat.js; vertex belongs on line 3 for SIBR and spz",
    "obj-info": "SuperSplat, PlayCanvas and spz refuse obj_info lines",
    "float-only": "other types, and the name float32, are misread or refused",
    "standard-block": "fixed-struct readers need x .. rot_3 complete, first and in order",
    "names": "extra columns with these names are taken for colour, SH, scale or rotation",
    "comments": "GaussianSplats3D takes these words for structure even in a comment",
    "file-size": "SuperSplat and trimesh refuse trailing bytes; a truncated file lost Gaussians",
    "count": "SuperSplat and spz refuse an empty file",
    "finite": "NaN and infinity make viewers flicker or go black",
    "quaternion": "SuperSplat does not normalise rotations",
    "ids": "codebook and instance IDs are whole numbers from -1 to the table's last row",
    "weights": "code weights are at least 0 and sum to at most 1",
    "codebook": "the codebook that the header names lies beside the file, unchanged",
}
"""Every rule and why it exists."""

FORBIDDEN_PREFIXES = ("rot", "scale", "f_", "packed", "sem_", "semantic_", "obj_dc_", "red")
FORBIDDEN_NAMES = ("red", "green", "blue", "r", "g", "b")
FORBIDDEN_WORDS = ("packed_", "chunk", "codebook_centers", "f_rest_")


@dataclass(frozen=True)
class Violation:
    """One broken rule of RULES, and where."""

    rule: str
    message: str


def check_ply(path: str | Path, codebook: str | Path | None = None) -> list[Violation]:
    """Every rule that a file breaks, empty when all of its known readers will open it.

    `codebook` as in `read_ply`. Raises SceneFileError only if the file cannot be opened.
    """
    path = Path(path)
    with open_regular(path) as file:
        try:
            header = read_header(file, path.name)
        except SceneFileError as error:
            return [Violation("readable", str(error))]
    found = _header_violations(header)
    try:
        layout = layout_of(header.vertex, path.name)
    except SceneFileError as error:
        return [*found, Violation("readable", str(error))]
    if any(violation.rule == "file-size" for violation in found):
        return found
    rows, broken = _codebook_rows(path, header, codebook)
    return found + broken + _row_violations(path, header, RowChecks(header.vertex, layout, rows))


def describe(path: str | Path, codebook: str | Path | None = None) -> dict[str, Any]:
    """Facts about a scene file as plain values: counts, columns, extent, codebook, provenance.

    Raises SceneFileError as `read_ply`.
    """
    path = Path(path)
    with open_regular(path) as file:
        header = read_header(file, path.name)
    scene = read_ply(path, codebook=codebook)
    layout = layout_of(header.vertex, path.name)
    names = [name for name, _ in header.vertex.properties]
    extra = [name for name in names if name not in layout.standard]
    return scene_facts(scene, path) | {"extra_properties": extra}


def scene_facts(scene: Scene, path: Path) -> dict[str, Any]:
    """Facts about a scene that was read from a file of any kind, as plain values."""
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "gaussians": len(scene),
        "sh_degree": SH_COUNTS.index(scene.gaussians.sh.shape[1]),
        "extra_properties": [],
        "bounding_box": {
            "min": scene.gaussians.means.min(axis=0).tolist(),
            "max": scene.gaussians.means.max(axis=0).tolist(),
        },
        "metric": scene.metric,
        "codes": 0 if scene.codes is None else scene.codes.ids.shape[1],
        "instances": _instance_count(scene),
        "codebook": _describe_codebook(scene),
        "provenance": dict(scene.provenance),
    }


def _header_violations(header: Header) -> list[Violation]:
    vertex, found = header.vertex, []
    names = [name for name, _ in vertex.properties]
    standard = _standard(names)
    extra = [name for name in names if name not in standard]
    others = [element.name for element in header.elements if element is not vertex]
    wrong_types = [f"{word} {name}" for name, word in vertex.properties if word != "float"]
    clashes = [n for n in extra if n.startswith(FORBIDDEN_PREFIXES) or n in FORBIDDEN_NAMES]
    words = [word for word in FORBIDDEN_WORDS if any(word in line for line in header.comments)]
    third = header.lines[2] if len(header.lines) > 2 else ""
    text = "\n".join(header.lines) + "\n"
    broken = {
        "header-size": header.size > MAX_OUR_HEADER and f"the header has {header.size} bytes",
        "line-ends": len(text) != header.size and "lines end in CR LF",
        "one-element": bool(others) and f"other elements: {others[:4]}",
        "obj-info": any(line.startswith("obj_info") for line in header.lines) and "obj_info line",
        "float-only": bool(wrong_types) and f"not float: {wrong_types[:4]}",
        "standard-block": tuple(names[: len(standard)]) != standard
        and "x y z nx ny nz f_dc f_rest opacity scale rot do not stand first in this order",
        "names": bool(clashes) and f"misleading names: {clashes[:4]}",
        "comments": bool(words) and f"a comment holds {words}",
        "file-size": header.surplus != 0 and f"{header.surplus:+d} bytes beside the promised ones",
        "count": vertex.count == 0 and "no Gaussians",
    }
    if third != f"element vertex {vertex.count}":
        found.append(Violation("one-element", f"line 3 is {third[:60]!r}"))
    if header.order != "<":
        found.append(Violation("float-only", "the body is big-endian"))
    return found + [Violation(rule, str(text)) for rule, text in broken.items() if text]


def _standard(names: list[str]) -> tuple[str, ...]:
    """The standard block for as many f_rest columns as there are, whether that is right or not."""
    rest = sum(name.startswith("f_rest_") for name in names)
    return Layout(rest // 3 + 1).standard


def _row_violations(path: Path, header: Header, checks: RowChecks) -> list[Violation]:
    faults: Counter[Fault] = Counter()
    for _, block in blocks(path, header, slice(0, header.vertex.count)):
        faults += checks.count(block) + _unnormalised(block[:, checks.rotation])
    return [Violation(fault.rule, f"{n} rows {fault.phrase}") for fault, n in faults.items()]


def _unnormalised(quaternions: np.ndarray) -> Counter[Fault]:
    with np.errstate(all="ignore"):  # NaN has a rule of its own
        lengths = np.linalg.norm(quaternions.astype(np.float64), axis=1)
        off = int((np.abs(lengths - 1) > 1e-3).sum())
    return +Counter({Fault("quaternion", "have a quaternion that is not of length 1"): off})


def _codebook_rows(
    path: Path, header: Header, codebook: str | Path | None
) -> tuple[int, list[Violation]]:
    try:
        reference = codebook_reference(header, path.name)
        book = load_codebook(path, None if codebook is None else Path(codebook), reference)
        if book is not None:
            return len(book), []
    except SceneFileError as error:
        return MAX_ROWS, [Violation("codebook", str(error))]
    if reference is None:
        return MAX_ROWS, []
    return reference.size, [Violation("codebook", f"{reference.file!r} is not beside the file")]


def _instance_count(scene: Scene) -> int:
    if scene.instances is None:
        return 0
    return int(np.count_nonzero(np.unique(scene.instances) >= 0))


def _describe_codebook(scene: Scene) -> dict[str, Any] | None:
    if scene.codebook is None:
        return None
    spaces = {name: table.shape[1] for name, table in scene.codebook.spaces.items()}
    return {"rows": len(scene.codebook), "spaces": spaces}
