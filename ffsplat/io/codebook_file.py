"""The codebook beside a scene: a safetensors file, checked before its tensors are touched.

Tensors: `levels` I8, `parents` I16, `counts` F32, `names` U8 (a JSON list in UTF-8) and one F16
table `space.<name>` for each text space. One metadata entry holds the format and the order of the
spaces; one only, because safetensors does not promise an order and files must repeat bytewise.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, deserialize

from ffsplat.codebook import validate
from ffsplat.errors import OutputError, SceneFileError
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import escape, read_limited, unescape
from ffsplat.types import Codebook

SUFFIX = ".codebook.safetensors"
METADATA = "ffsplat.codebook"
MAX_BYTES = 1 << 30
MAX_HEADER = 1 << 16
TABLES = {"levels": "I8", "parents": "I16", "counts": "F32", "names": "U8"}


@dataclass(frozen=True)
class CodebookReference:
    """What a scene file says about its codebook: enough to find it and to know it again."""

    file: str
    sha256: str
    size: int
    dim: int
    topk: int

    @classmethod
    def of(cls, codebook: Codebook, content: bytes, file: str, topk: int) -> "CodebookReference":
        """The reference to a codebook that is stored as `content` under the name `file`."""
        dim = next((space.shape[1] for space in codebook.spaces.values()), 0)
        return cls(file, hashlib.sha256(content).hexdigest(), len(codebook), dim, topk)

    def note(self) -> str:
        """The text of the header comment, after `ffsplat.codebook`."""
        name = escape(self.file, extra=" =")
        return f"file={name} sha256={self.sha256} size={self.size} dim={self.dim} topk={self.topk}"

    @classmethod
    def parse(cls, note: str, scene: str) -> "CodebookReference":
        """Read `note` back; SceneFileError if it is malformed or leaves the scene's folder."""
        pairs = (pair.partition("=") for pair in note.split())
        fields = {key: value for key, _, value in pairs}
        numbers = [fields.get(key, "") for key in ("size", "dim", "topk")]
        file, sha256 = unescape(fields.get("file", "")), fields.get("sha256", "")
        plain = all(re.fullmatch("[0-9]{1,6}", number) for number in numbers)
        if not plain or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise SceneFileError(f"{scene} has a malformed codebook comment")
        if not file or file in (".", "..") or set(file) & set("/\\\0"):
            raise SceneFileError(f"{scene} names a codebook outside its own folder")
        return cls(file, sha256, *map(int, numbers))


def sidecar_path(scene: str | Path) -> Path:
    """Where the codebook of a scene file is written: `<stem>.codebook.safetensors` beside it."""
    scene = Path(scene)
    if not scene.name:
        raise OutputError(f"{scene} is a folder", "give the name of a file")
    return scene.with_name(scene.stem + SUFFIX)


def write_codebook(codebook: Codebook, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a codebook; OutputError as `atomic_output`."""
    content = codebook_bytes(codebook)
    with atomic_output(path, overwrite, len(content)) as file:
        file.write(content)


def codebook_bytes(codebook: Codebook) -> bytes:
    """The file's content, the same bytes for the same codebook."""
    validate(codebook)
    names = json.dumps(list(codebook.names)).encode()
    tensors = {
        "levels": codebook.levels,
        "parents": codebook.parents,
        "counts": codebook.counts,
        "names": np.frombuffer(names, np.uint8),
        **{f"space.{name}": space for name, space in codebook.spaces.items()},
    }
    entry = json.dumps({"format": 1, "spaces": list(codebook.spaces)})
    contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    return safetensors.numpy.save(contiguous, {METADATA: entry})


def read_codebook(path: str | Path, sha256: str | None = None) -> Codebook:
    """Read a codebook strictly; SceneFileError names what is wrong with the file.

    `sha256` is the digest that the scene expects, None when it does not say.
    """
    path = Path(path)
    content = read_limited(path, MAX_BYTES)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise SceneFileError(
            f"{path} is not the codebook that the scene was written with",
            "its sha256 differs; pass the right one with --codebook",
        )
    return decode_codebook(content, str(path))


def decode_codebook(content: bytes, name: str) -> Codebook:
    """Undo `codebook_bytes`; SceneFileError, with the name, says what is wrong."""
    try:
        return _decode(content)
    except (ValueError, SafetensorError, RecursionError) as error:
        raise SceneFileError(f"{name} is not a codebook: {error}") from error


def find_codebook(
    scene: Path, explicit: Path | None, reference: CodebookReference | None
) -> Path | None:
    """The codebook of a scene: as told, as its comment says, or by name beside it; else None.

    Beside a link also means beside the file that it points to. A name that the file system cannot
    hold counts as absent (`Path.is_file` would raise).
    """
    if explicit is not None:
        return explicit
    candidates = []
    for place in dict.fromkeys([scene, Path(os.path.realpath(scene))]):
        if reference is not None:
            candidates.append(place.with_name(reference.file))
        candidates += [sidecar_path(place), place.with_name("codebook.safetensors")]
    return next((path for path in candidates if os.path.isfile(path)), None)  # noqa: PTH113


def _decode(content: bytes) -> Codebook:
    header_size = int.from_bytes(content[:8], "little")
    if header_size > MAX_HEADER:
        raise ValueError(f"its header has {header_size} bytes")
    deserialize(content)  # checks the header's grammar, offsets and coverage
    header = json.loads(content[8 : 8 + header_size], object_pairs_hook=_unique)
    entry = json.loads((header.pop("__metadata__", None) or {}).get(METADATA, "null"))
    match entry:
        case {"format": 1, "spaces": [*spaces]} if all(isinstance(name, str) for name in spaces):
            expected = TABLES | {f"space.{space}": "F16" for space in spaces}
        case _:
            raise ValueError(f"it is not marked as {METADATA} format 1")
    found = {name: info["dtype"] for name, info in header.items()}
    if found != expected:
        wrong = sorted(found.items() ^ expected.items())
        raise ValueError(f"unexpected or missing tensors: {wrong[:4]}")
    tensors = safetensors.numpy.load(content)
    return _codebook(tensors, spaces)


def _codebook(tensors: dict[str, np.ndarray], spaces: list[str]) -> Codebook:
    names = json.loads(tensors["names"].tobytes().decode())
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("names is not a list of strings")
    tables = {space: tensors[f"space.{space}"] for space in spaces}
    levels, parents, counts = (tensors[name] for name in ("levels", "parents", "counts"))
    shapes = {(len(names),), levels.shape, parents.shape, counts.shape}
    if len(shapes) > 1 or any(table.shape[:-1] not in shapes for table in tables.values()):
        raise ValueError("tables of different shape")
    codebook = Codebook(tuple(names), levels, parents, counts, tables)
    validate(codebook)
    return codebook


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice in the header")
    return dict(pairs)
