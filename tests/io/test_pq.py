"""The 130-byte export: against what faiss wrote, faiss itself where installed, and by hand."""

import struct

import numpy as np
import pytest

from ffsplat import codes
from ffsplat.codebook import add_space
from ffsplat.errors import SceneFileError
from ffsplat.io.pq import EMPTY, ProductQuantizer, quantize_codes, read_quantizer, write_pq
from ffsplat.semantics.bank import nameless

FAISS_CODES = ("62001495155f", "1a01373a490f", "0e005619afe2", "11001aea65f9", "1501d2f40c14")
"""`sa_encode` of faiss 1.15.1 on the vectors of `small_case`."""

FAISS_STARTS = (
    (0.5506678, 0.32254678),
    (-0.40936816, 0.37628025),
    (0.6927012, -0.10168304),
    (0.5016222, -0.11700958),
    (-0.2053299, 0.25974578),
)
"""The first two numbers of its `sa_decode` of them."""


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def small_case() -> tuple[ProductQuantizer, np.ndarray]:
    rng = np.random.default_rng(11)
    coarse = unit(rng.standard_normal((300, 8)).astype(np.float32))
    parts = (0.3 * rng.standard_normal((4, 256, 2))).astype(np.float32)
    return ProductQuantizer(coarse, parts), unit(rng.standard_normal((5, 8)).astype(np.float32))


def index_file(quantizer: ProductQuantizer, metric: int = 0, total: int = 0) -> bytes:
    """What faiss writes for an IndexIVFPQ, field by field."""
    lists, size = quantizer.coarse.shape
    header = "<4siqqqBi"
    return b"".join(
        [
            struct.pack(header, b"IwPQ", size, total, 1 << 20, 1 << 20, 1, metric),
            struct.pack("<QQ", lists, 1),
            struct.pack(header, b"IxFI", size, lists, 1 << 20, 1 << 20, 1, 0),
            struct.pack("<Q", lists * size) + quantizer.coarse.tobytes(),
            struct.pack("<BQ", 0, 0),
            struct.pack("<BQQQQ", 1, len(quantizer.parts), size, len(quantizer.parts), 8),
            struct.pack("<Q", 256 * size) + quantizer.parts.tobytes(),
            b"ilar" + struct.pack("<QQ", lists, len(quantizer.parts)),
        ]
    )


def test_codes_are_the_bytes_that_faiss_gave():
    quantizer, vectors = small_case()
    encoded = quantizer.encode(vectors)
    assert [row.tobytes().hex() for row in encoded] == list(FAISS_CODES)
    np.testing.assert_allclose(quantizer.decode(encoded)[:, :2], FAISS_STARTS, atol=1e-6)


def test_a_code_of_drsplat_takes_130_bytes():
    coarse = np.zeros((1024, 512), np.float32)
    assert ProductQuantizer(coarse, np.zeros((128, 256, 4), np.float32)).code_bytes == 130
    few = ProductQuantizer(coarse[:256], np.zeros((128, 256, 4), np.float32))
    assert few.code_bytes == 129


def test_table_look_ups_equal_inner_products_of_decoded_vectors():
    quantizer, vectors = small_case()
    encoded = quantizer.encode(vectors)
    texts = unit(np.random.default_rng(0).standard_normal((3, 8)))
    wanted = quantizer.decode(encoded) @ texts.T
    np.testing.assert_allclose(quantizer.adc(encoded, texts), wanted, atol=1e-6)


def test_the_nearest_of_all_codes_is_chosen():
    quantizer, vectors = small_case()
    decoded = quantizer.decode(quantizer.encode(vectors))
    for vector, found in zip(vectors, decoded, strict=True):
        centre = quantizer.coarse[(quantizer.coarse @ vector).argmax()]
        pieces = (vector - centre).reshape(4, 1, 2) - quantizer.parts
        least = np.square(pieces).sum(-1).min(axis=1).sum()
        assert np.square(vector - found).sum() == pytest.approx(least, abs=1e-6)


def test_gaussians_without_evidence_are_all_255_and_decode_to_nothing(tmp_path):
    quantizer, vectors = small_case()
    book = nameless(np.ones(5, np.float32), vectors, "toy")
    ids = np.array([[0, 1], [-1, -1], [4, -1]], np.int16)
    code = codes.from_pairs(ids, np.array([[0.7, 0.3], [0, 0], [1, 0]]), 2)
    encoded = quantize_codes(code, book, "toy", quantizer)
    np.testing.assert_array_equal(encoded[1], EMPTY)
    np.testing.assert_array_equal(quantizer.decode(encoded)[1], 0)
    np.testing.assert_array_equal(quantizer.adc(encoded, vectors)[1], 0)
    rows = book.spaces["toy"].astype(np.float32)
    mixed = unit((code.weights[:1, :1] * rows[0] + code.weights[:1, 1:] * rows[1]).astype(float))
    np.testing.assert_array_equal(encoded[0], quantizer.encode(mixed)[0])
    write_pq(tmp_path / "codes.npy", encoded)
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy", allow_pickle=False), encoded)


def test_an_index_file_is_read_field_by_field(tmp_path):
    quantizer, _ = small_case()
    path = tmp_path / "index.faiss"
    path.write_bytes(index_file(quantizer))
    read = read_quantizer(path)
    np.testing.assert_array_equal(read.coarse, quantizer.coarse)
    np.testing.assert_array_equal(read.parts, quantizer.parts)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "unpack"),
        (b"IxF2" + bytes(60), "the kind"),
        (index_file(small_case()[0], metric=1), "the metric is 1"),
        (index_file(small_case()[0], total=9), "the number of vectors is 9"),
        (index_file(small_case()[0])[:5000], "buffer"),
    ],
)
def test_other_files_are_refused(tmp_path, content, problem):
    path = tmp_path / "index.faiss"
    path.write_bytes(content)
    with pytest.raises(SceneFileError, match=problem):
        read_quantizer(path)


def test_codes_of_another_index_are_refused():
    quantizer, _ = small_case()
    with pytest.raises(SceneFileError, match="codes of 5 bytes"):
        quantizer.decode(np.zeros((1, 5), np.uint8))
    with pytest.raises(SceneFileError, match="list 511 of 300"):
        quantizer.decode(np.array([[255, 1, 0, 0, 0, 0]], np.uint8))
    with pytest.raises(ValueError, match="do not make vectors"):
        ProductQuantizer(np.zeros((3, 8), np.float32), np.zeros((3, 256, 2), np.float32))


def test_faiss_reads_and_encodes_alike(tmp_path):
    faiss = pytest.importorskip("faiss")
    rng = np.random.default_rng(1)
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(16), 16, 30, 8, 8, faiss.METRIC_INNER_PRODUCT)
    vectors = unit(rng.standard_normal((10240, 16)))
    index.train(vectors)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    quantizer = read_quantizer(tmp_path / "index.faiss")
    theirs = index.sa_encode(vectors)
    assert (quantizer.encode(vectors) == theirs).mean() > 0.9999
    np.testing.assert_allclose(quantizer.decode(theirs), index.sa_decode(theirs), atol=1e-6)


def test_a_codebook_may_have_the_space_among_others():
    quantizer, vectors = small_case()
    book = nameless(np.ones(5, np.float32), vectors[:, :4], "other")
    book = add_space(book, "toy", vectors)
    code = codes.from_pairs(np.array([[2]]), np.ones((1, 1)), 1)
    rows = book.spaces["toy"].astype(np.float32)
    np.testing.assert_array_equal(
        quantize_codes(code, book, "toy", quantizer), quantizer.encode(unit(rows[2:3]))
    )
