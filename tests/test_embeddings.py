"""Embedded phrases on disk: what is read back, what is refused, and who may share a cache."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from ffsplat.embeddings import (
    EmbeddingCache,
    TextEmbedding,
    default_folder,
    embedding_bytes,
    read_embedding,
)
from ffsplat.errors import SceneFileError

SPACE = "open_clip:ViT-B-16/laion2b_s34b_b88k"


def unit(*numbers: float) -> np.ndarray:
    vector = np.float32(numbers)
    return vector / np.linalg.norm(vector)


SOFA = TextEmbedding("a red sofa", SPACE, unit(1, 2, 3), np.stack([unit(1, 0, 0), unit(0, 1, 1)]))


def test_a_saved_text_comes_back(tmp_path):
    path = tmp_path / "sofa.safetensors"
    path.write_bytes(embedding_bytes(SOFA))
    found = read_embedding(path)
    assert (found.text, found.space) == (SOFA.text, SOFA.space)
    np.testing.assert_array_equal(found.vector, SOFA.vector)
    np.testing.assert_array_equal(found.canon, SOFA.canon)


@pytest.mark.parametrize("shape", [(3,), (1, 3)])
def test_a_numpy_file_holds_one_vector_which_is_scaled_to_length_1(tmp_path, shape):
    path = tmp_path / "sofa.npy"
    np.save(path, np.float64([3, 0, 4]).reshape(shape))
    found = read_embedding(path)
    np.testing.assert_allclose(found.vector, [0.6, 0, 0.8], atol=1e-7)
    assert (found.text, found.space, found.canon.shape) == ("sofa", "", (0, 3))


def header_of(shape: tuple[int, ...]) -> bytes:
    """A .npy file that promises an array of this shape and holds nothing of it."""
    text = str({"descr": "<f4", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.npy", b""),
        ("x.npy", b"\x80\x04."),
        ("x.npy", pickle.dumps([1.0, 2.0])),
        ("x.npy", header_of((1 << 40,))),
        ("x.safetensors", b""),
        ("x.safetensors", b"\xff" * 64),
        ("x.safetensors", b"\0" * ((1 << 20) + 1)),
        ("x.safetensors", save({"vector": np.ones(3, np.float32)})),
        ("x.safetensors", save({"vector": np.ones(3), "canon": np.ones((0, 3))})),
        ("x.bin", b"anything"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SceneFileError, match=r"x\.(npy|safetensors|bin)"):
        read_embedding(tmp_path / name)


@pytest.mark.parametrize(
    "changes",
    [
        {"vector": np.float32([1, np.nan, 0])},
        {"vector": np.zeros(3, np.float32)},
        {"vector": np.zeros(0, np.float32)},
        {"vector": np.ones((1 << 14) + 1, np.float32)},
        {"canon": np.ones((1, 4), np.float32)},
    ],
)
def test_numbers_that_are_no_embedding_are_refused(tmp_path, changes):
    path = tmp_path / "x.safetensors"
    tensors = {"vector": SOFA.vector, "canon": SOFA.canon} | changes
    path.write_bytes(save(tensors, {"format": "ffsplat.text 1"}))
    with pytest.raises(SceneFileError):
        read_embedding(path)


@pytest.mark.parametrize(
    "array", [np.ones((2, 3)), np.array(["sofa"]), np.array([{}]), np.ones(())]
)
def test_arrays_that_are_no_vector_are_refused(tmp_path, array):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(SceneFileError):
        read_embedding(tmp_path / "x.npy")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for path in (tmp_path / "pipe.npy", tmp_path):
        with pytest.raises(SceneFileError, match="is no file"):
            read_embedding(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SceneFileError, match=r"nothing\.safetensors: No such file"):
        read_embedding(tmp_path / "nothing.safetensors")


def test_the_cache_keeps_phrases_apart_by_space_and_text(tmp_path):
    cache = EmbeddingCache(tmp_path / "new" / "folder")
    assert cache.get(SPACE, "sofa") is None
    cache.put(SPACE, {"sofa": unit(1, 0)})
    cache.put(SPACE, {"Sofa": unit(0, 1)})
    cache.put("other", {"sofa": unit(1, 1)})
    np.testing.assert_array_equal(cache.get(SPACE, "sofa"), unit(1, 0))
    np.testing.assert_array_equal(cache.get(SPACE, "Sofa"), unit(0, 1))
    np.testing.assert_array_equal(cache.get("other", "sofa"), unit(1, 1))
    cache.put(SPACE, {"sofa": unit(1, 2)})
    np.testing.assert_allclose(cache.get(SPACE, "sofa"), unit(1, 2), atol=1e-7)
    assert len(list(cache.folder.iterdir())) == 3


@pytest.mark.parametrize("damage", [b"", b"\xff" * 50, None, "other"])
def test_damaged_and_foreign_files_are_written_anew(tmp_path, damage):
    cache = EmbeddingCache(tmp_path)
    cache.put(SPACE, {"sofa": unit(1, 0)})
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage == "other":  # whole, but for another phrase
        damage = embedding_bytes(replace(SOFA, text="lamp"))
    path.write_bytes(whole[:-3] if damage is None else damage)
    assert cache.get(SPACE, "sofa") is None
    cache.put(SPACE, {"sofa": unit(1, 0)})
    np.testing.assert_array_equal(cache.get(SPACE, "sofa"), unit(1, 0))


def test_the_longest_unused_phrases_go_first(tmp_path):
    cache = EmbeddingCache(tmp_path, limit=8)
    for number in range(8):
        cache.put(SPACE, {str(number): unit(1, number)})
        os.utime(cache._path(SPACE, str(number)), (number, number))
    assert cache.get(SPACE, "0") is not None  # and so used now
    cache.put(SPACE, {"8": unit(1, 8)})
    kept = [number for number in range(9) if cache.get(SPACE, str(number)) is not None]
    assert kept == [0, 3, 4, 5, 6, 7, 8]


def test_a_cache_that_cannot_be_written_stays_empty(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache = EmbeddingCache(tmp_path / "file")
    cache.put(SPACE, {"sofa": unit(1, 0)})
    assert cache.get(SPACE, "sofa") is None


def test_processes_may_write_at_once(tmp_path):
    program = (
        "import sys, pathlib, numpy as np; from ffsplat.embeddings import EmbeddingCache\n"
        "cache = EmbeddingCache(pathlib.Path(sys.argv[1]), limit=40)\n"
        "for i in range(120):\n"
        "    text = str(i % 50)\n"
        "    cache.put('space', {text: np.float32([i % 50, 1])})\n"
        "    found = cache.get('space', text)\n"
        "    assert found is None or abs(found[0] / found[1] - i % 50) < 1e-3\n"
        "assert 'torch' not in sys.modules\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", program, tmp_path]) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) <= 41
    assert not [name for name in names if name.startswith(".")]


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("FFSPLAT_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    monkeypatch.delenv("FFSPLAT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EmbeddingCache().folder == tmp_path / "ffsplat" / "text"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "ffsplat"


def test_metadata_is_what_others_read():
    content = embedding_bytes(SOFA)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"] == {
        "format": "ffsplat.text 1", "text": "a red sofa", "space": SPACE,
    }  # fmt: skip
