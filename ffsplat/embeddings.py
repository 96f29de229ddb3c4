"""Embedded phrases on disk: files that a scene can be asked with, and a bounded cache of them.

Both are small safetensors files, read without torch and without the network that made them.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from ffsplat.errors import SceneFileError

CACHE_VARIABLE = "FFSPLAT_CACHE"
"""Environment variable that names the folder of caches in place of the user's usual one."""

MAX_BYTES = 1 << 20
MAX_WIDTH = 1 << 14
ROUNDING = 1e-5
"""How far the length of a unit vector in float32 may be from 1."""

MAX_ENTRIES = 4096
"""Phrases that a cache keeps: some 10 MB."""

_FORMAT = "ffsplat.text 1"
_HINT = "ffsplat query --save-embedding writes one; a .npy file holds one vector"


@dataclass(frozen=True, eq=False)
class TextEmbedding:
    """A phrase as a unit vector of a text space, and the canonical phrases to compare it with.

    `space` is "" where the file does not say; `canon` has no rows where scores are plain cosines.
    """

    text: str
    space: str
    vector: Float32[np.ndarray, " d"]
    canon: Float32[np.ndarray, "c d"]


def embedding_bytes(embedding: TextEmbedding) -> bytes:
    """The content of a safetensors file with an embedding."""
    from safetensors.numpy import save

    notes = {"format": _FORMAT, "text": embedding.text, "space": embedding.space}
    return save({"vector": embedding.vector, "canon": embedding.canon}, metadata=notes)


def read_embedding(path: Path) -> TextEmbedding:
    """An embedding from `embedding_bytes`, or from a .npy file with one vector.

    Raises SceneFileError for a file that is missing, too large, of another form or not finite.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_BYTES:
            raise SceneFileError(f"{path} is no file of at most {MAX_BYTES} bytes", _HINT)
        return _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
    except OSError as error:
        raise SceneFileError(f"cannot read {path}: {error.strerror or error}") from error


def _read_npy(path: Path) -> TextEmbedding:
    try:  # mapped: a header that promises more than the file has allocates nothing
        vector = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:
        raise SceneFileError(f"{path} is not a .npy file of numbers", _HINT) from error
    if not isinstance(vector, np.ndarray):
        raise SceneFileError(f"{path} is not a .npy file of numbers", _HINT)
    found = _unit(path, vector.reshape(1, -1) if vector.ndim == 1 else vector)
    if len(found) != 1:
        raise SceneFileError(f"{path} holds {len(found)} vectors, not one", _HINT)
    return TextEmbedding(path.stem, "", found[0], found[1:])


def _read_safetensors(path: Path) -> TextEmbedding:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            notes = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in ("vector", "canon")}
    except (SafetensorError, TypeError, ValueError) as error:
        raise SceneFileError(f"{path} holds no embedded phrase", _HINT) from error
    if notes.get("format") != _FORMAT or tensors["vector"].ndim != 1:
        raise SceneFileError(f"{path} holds no embedded phrase", _HINT)
    vector, canon = _unit(path, tensors["vector"][None])[0], _unit(path, tensors["canon"])
    if canon.shape[1] != len(vector):
        raise SceneFileError(f"{path} holds vectors of two sizes", _HINT)
    return TextEmbedding(notes.get("text", ""), notes.get("space", ""), vector, canon)


def _unit(path: Path, rows: np.ndarray) -> Float32[np.ndarray, "n d"]:
    fits = rows.ndim == 2 and 0 < rows.shape[1] <= MAX_WIDTH and rows.dtype.kind == "f"
    wide = rows.astype(np.float64) if fits else np.full((1, 1), np.nan)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise SceneFileError(f"{path} holds something else than vectors of finite numbers", _HINT)
    exact = np.abs(lengths - 1) < ROUNDING  # then the same bits come back that were written
    return np.where(exact, wide, wide / lengths).astype(np.float32)


class EmbeddingCache:
    """Vectors of phrases by space and text, one file each; damaged or foreign files are ignored.

    Files appear whole, so that processes may share a folder; the longest unused go first when
    there are more than `limit`. A folder that cannot be written is a cache that stays empty.
    """

    def __init__(self, folder: Path | None = None, limit: int = MAX_ENTRIES):
        self.folder = default_folder() / "text" if folder is None else folder
        self.limit = limit

    def get(self, space: str, text: str) -> Float32[np.ndarray, " d"] | None:
        """The unit vector of a phrase, or None."""
        path = self._path(space, text)
        try:
            found = read_embedding(path)
        except SceneFileError:
            return None
        if (found.space, found.text) != (space, text):
            return None
        with suppress(OSError):
            os.utime(path)
        return found.vector

    def put(self, space: str, vectors: Mapping[str, Float[np.ndarray, " d"]]) -> None:
        """Keep the unit vectors of phrases, in place of what was there."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for text, vector in vectors.items():
                self._write(
                    TextEmbedding(text, space, vector.astype(np.float32), _no_canon(vector))
                )
            self._prune()
        except OSError:
            pass  # a full or read-only disk costs time, not the answer

    def _write(self, embedding: TextEmbedding) -> None:
        path = self._path(embedding.space, embedding.text)
        partial = path.with_name(f".{secrets.token_hex(8)}.partial")
        try:
            partial.write_bytes(embedding_bytes(embedding))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _path(self, space: str, text: str) -> Path:
        key = hashlib.sha256(f"{space}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / f"{key[:40]}.safetensors"

    def _prune(self) -> None:
        """Remove the longest unused files, an eighth more than too many; other processes may."""
        ages = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    ages.append((entry.stat().st_mtime_ns, entry.name))
        if len(ages) <= self.limit:
            return
        for _, name in sorted(ages)[: len(ages) - self.limit + self.limit // 8]:
            (self.folder / name).unlink(missing_ok=True)


def _no_canon(vector: Float[np.ndarray, " d"]) -> Float32[np.ndarray, "0 d"]:
    return np.zeros((0, len(vector)), np.float32)


def default_folder() -> Path:
    """Where caches lie: $FFSPLAT_CACHE, else ffsplat in the user's folder of caches."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own)
    try:
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # the home of nobody
        usual = Path(os.devnull)
    return usual / "ffsplat"
