"""Meaning in 130 bytes a Gaussian: the product-quantised layout of Dr. Splat, as an export.

An inverted file of coarse centroids C and M sub-quantisers P of their residuals, for inner products
(faiss `IndexIVFPQ`, by_residual): a vector x becomes [k mod 256, k div 256, c_1 .. c_M] with
k = argmax <x, C_k> and c_m = argmin |(x - C_k)_m - P_m[c]|^2. Dr. Splat (arXiv 2502.16652) has 1024
centroids and M = 128 for 512 numbers. It is lossy: its authors report a cosine of 0.85 for image
and 0.65 for text features, so texts are compared through `adc`, never quantised.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from ffsplat.errors import SceneFileError
from ffsplat.io.atomic import atomic_output
from ffsplat.types import Codebook, SparseCode

CHUNK = 4096
"""Vectors that are encoded at a time."""

EMPTY = 255
"""All bytes of a Gaussian without evidence."""

MAX_BYTES = 1 << 28
"""Of an index file."""

INNER_PRODUCT = 0


@dataclass(frozen=True, eq=False)
class ProductQuantizer:
    """`coarse` centroids and, for each part of a residual, 256 entries of `parts`."""

    coarse: Float32[np.ndarray, "lists d"]
    parts: Float32[np.ndarray, "m 256 s"]

    def __post_init__(self) -> None:
        lists, size = self.coarse.shape
        if self.parts.shape[0] * self.parts.shape[2] != size or not 1 <= lists <= 2**16:
            raise ValueError(f"parts {self.parts.shape} do not make vectors of {size} numbers")

    @property
    def code_bytes(self) -> int:
        """Bytes of a vector: 2 for the list, or 1 of up to 256 lists, and 1 for each part."""
        return self._list_bytes + len(self.parts)

    @property
    def _list_bytes(self) -> int:
        return 1 if len(self.coarse) <= 256 else 2

    def encode(self, vectors: Float32[np.ndarray, "n d"]) -> UInt8[np.ndarray, "n bytes"]:
        """The code of each vector: that of faiss's `sa_encode`, but for ties within rounding."""
        codes = np.empty((len(vectors), self.code_bytes), np.uint8)
        for start in range(0, len(vectors), CHUNK):
            block = vectors[start : start + CHUNK]
            lists = (block @ self.coarse.T).argmax(axis=1)
            residual = block - self.coarse[lists]
            out = codes[start : start + CHUNK]
            for byte in range(self._list_bytes):
                out[:, byte] = (lists >> 8 * byte) & 255
            size = self.parts.shape[2]
            for m, part in enumerate(self.parts):
                distance = np.zeros((len(block), 256), np.float32)
                for s in range(size):  # differences, not products: as exact as faiss has them
                    distance += np.square(residual[:, m * size + s, None] - part[:, s])
                out[:, self._list_bytes + m] = distance.argmin(axis=1)
        return codes

    def decode(self, codes: UInt8[np.ndarray, "n bytes"]) -> Float32[np.ndarray, "n d"]:
        """The vector of each code, not scaled to length 1; 0 for a Gaussian without evidence.

        Raises SceneFileError for a list that does not exist.
        """
        known = ~self._empty(codes)
        lists = self._lists(codes[known])
        pieces = self.parts[np.arange(len(self.parts)), codes[known][:, self._list_bytes :]]
        vectors = np.zeros((len(codes), self.coarse.shape[1]), np.float32)
        vectors[known] = self.coarse[lists] + pieces.reshape(len(lists), -1)
        return vectors

    def adc(
        self, codes: UInt8[np.ndarray, "n bytes"], texts: Float32[np.ndarray, "t d"]
    ) -> Float32[np.ndarray, "n t"]:
        """Inner products of decoded vectors and texts without decoding: table look-ups.

        Source: asymmetric distance computation, Jegou et al., "Product Quantization for Nearest
        Neighbor Search", 2011, section III. 0 for a Gaussian without evidence.
        """
        known = np.flatnonzero(~self._empty(codes))
        scores = np.zeros((len(codes), len(texts)), np.float32)
        lists = self._lists(codes[known])
        pieces = texts.reshape(len(texts), len(self.parts), -1)
        tables = np.einsum("mcs,tms->mct", self.parts, pieces)
        total = (self.coarse @ texts.T)[lists]
        for m, table in enumerate(tables):
            total += table[codes[known, self._list_bytes + m]]
        scores[known] = total
        return scores

    def _empty(self, codes: UInt8[np.ndarray, "n bytes"]) -> np.ndarray:
        if codes.shape[1] != self.code_bytes:
            raise SceneFileError(
                f"codes of {codes.shape[1]} bytes, the index has {self.code_bytes}"
            )
        return np.asarray((codes == EMPTY).all(axis=1))

    def _lists(self, codes: UInt8[np.ndarray, "n bytes"]) -> Int64[np.ndarray, " n"]:
        lists = codes[:, 0].astype(np.int64)
        if self._list_bytes == 2:
            lists += codes[:, 1].astype(np.int64) << 8
        if len(lists) and lists.max() >= len(self.coarse):
            raise SceneFileError(f"a code names the list {lists.max()} of {len(self.coarse)}")
        return lists


def quantize_codes(
    code: SparseCode, codebook: Codebook, space: str, quantizer: ProductQuantizer
) -> UInt8[np.ndarray, "n bytes"]:
    """The quantised unit feature of each Gaussian; all bytes 255 where there is no evidence.

    Gaussians are taken in chunks, so that no table of all their features is made.
    """
    rows = codebook.spaces[space].astype(np.float32)
    codes = np.full((len(code), quantizer.code_bytes), EMPTY, np.uint8)
    for start in range(0, len(code), CHUNK):
        part = code[start : start + CHUNK]
        vectors = np.einsum("nk,nkd->nd", part.weights.astype(np.float32), rows[part.ids])
        lengths = np.linalg.norm(vectors, axis=1)
        known = np.flatnonzero(lengths > 0)
        codes[start + known] = quantizer.encode(vectors[known] / lengths[known, None])
    return codes


def write_pq(
    path: str | Path, codes: UInt8[np.ndarray, "n bytes"], overwrite: bool = False
) -> None:
    """Write codes as Dr. Splat keeps them: a NumPy array of bytes, one row a Gaussian."""
    with atomic_output(path, overwrite=overwrite) as file:
        np.lib.format.write_array(file, codes, allow_pickle=False)


def read_quantizer(path: str | Path) -> ProductQuantizer:
    """The centroids of an IndexIVFPQ file of faiss, such as Dr. Splat's `pq_index.faiss`.

    Only what Dr. Splat's is: a flat coarse index, inner product, residuals, 8 bits, no vectors.
    Raises SceneFileError for any other file.
    """
    content = Path(path).read_bytes() if Path(path).stat().st_size <= MAX_BYTES else b""
    try:
        return _Reader(content).quantizer()
    except (struct.error, ValueError) as error:
        raise SceneFileError(
            f"{path} is no IndexIVFPQ of inner products with 8 bits ({error})",
            "faiss.write_index writes one, before vectors are added",
        ) from error


class _Reader:
    """Fields of a faiss index file, one after the other (faiss/impl/index_write.cpp)."""

    def __init__(self, content: bytes):
        self.content = content
        self.place = 0

    def take(self, layout: str) -> tuple:
        fields = struct.unpack_from("<" + layout, self.content, self.place)
        self.place += struct.calcsize("<" + layout)
        return fields

    def floats(self, count: int) -> Float[np.ndarray, " count"]:
        (stored,) = self.take("Q")
        if stored != count:
            raise ValueError(f"{stored} numbers where {count} were expected")
        self.place += 4 * count
        return np.frombuffer(self.content, "<f4", count, self.place - 4 * count)

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise ValueError(f"{what} is {found!r}, not {wanted!r}")

    def index_header(self, kind: bytes) -> tuple[int, int]:
        """Numbers in a vector, and how many vectors."""
        name, size, total, _, _, _, metric = self.take("4siqqqBi")
        self.expect("the kind", name, kind)
        self.expect("the metric", metric, INNER_PRODUCT)
        return size, total

    def quantizer(self) -> ProductQuantizer:
        size, total = self.index_header(b"IwPQ")
        self.expect("the number of vectors", total, 0)
        lists, _ = self.take("QQ")
        self.expect("the coarse index", self.index_header(b"IxFI"), (size, lists))
        coarse = self.floats(lists * size).reshape(lists, size)
        direct_map, mapped = self.take("BQ")
        self.expect("the direct map", (direct_map, mapped), (0, 0))
        residual, _, width, parts, bits = self.take("BQQQQ")
        self.expect("residuals, numbers and bits", (residual, width, bits), (1, size, 8))
        if not parts or size % parts:
            raise ValueError(f"{parts} parts of {size} numbers")
        table = self.floats(256 * size).reshape(parts, 256, size // parts)
        return ProductQuantizer(coarse.astype(np.float32), table.astype(np.float32))
