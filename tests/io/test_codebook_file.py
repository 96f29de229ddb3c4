import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.io import load_scene, read_codebook, save_scene, write_codebook
from ffsplat.io.codebook_file import METADATA, CodebookReference, codebook_bytes, sidecar_path
from tests.io.scenes import random_codebook, random_scene


def tensors_and_entry():
    """A good file taken apart, for tests that put it together wrongly."""
    tensors = safetensors.numpy.load(codebook_bytes(random_codebook(rows=3)))
    return dict(tensors), {"format": 1, "spaces": ["words", "lexicon"]}


def read_parts(tmp_path, tensors, entry):
    path = tmp_path / "c.safetensors"
    path.write_bytes(safetensors.numpy.save(tensors, {METADATA: json.dumps(entry)}))
    return read_codebook(path)


def test_round_trip_keeps_everything_and_repeats_bytewise(tmp_path):
    codebook = replace(random_codebook(), names=("", "é", "a\nb", *random_codebook().names[3:]))
    path = tmp_path / "c.safetensors"
    write_codebook(codebook, path)
    back = read_codebook(path)
    assert back.names == codebook.names
    for name in ("levels", "parents", "counts"):
        assert np.array_equal(getattr(back, name), getattr(codebook, name))
    assert list(back.spaces) == ["words", "lexicon"]
    for name, table in codebook.spaces.items():
        assert back.spaces[name].dtype == np.float16
        assert np.array_equal(back.spaces[name], table)
    assert codebook_bytes(back) == path.read_bytes()
    with pytest.raises(OutputError, match="already exists"):
        write_codebook(codebook, path)


def test_parts_put_together_again_are_read(tmp_path):
    assert len(read_parts(tmp_path, *tensors_and_entry())) == 3


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("levels", np.int8([0, 1]), "different shape"),
        ("levels", np.int8([[0, 1, 2]]), "different shape"),
        ("levels", np.int8([0, 1, 4]), "level"),
        ("levels", np.int16([0, 1, 2]), "unexpected or missing"),
        ("parents", np.int16([-1, 3, -1]), "parent"),
        ("parents", np.int16([1, 0, -1]), "circle"),
        ("counts", np.float32([0, -1, 0]), "count"),
        ("counts", np.float32([0, np.nan, 0]), "count"),
        ("names", np.frombuffer(b'["a", "b"]', np.uint8), "different shape"),
        ("names", np.frombuffer(b'["a", "b", 3]', np.uint8), "list of strings"),
        ("names", np.frombuffer(b'{"a": 1}', np.uint8), "list of strings"),
        ("names", np.frombuffer(b"\xff\xff", np.uint8), "not a codebook"),
        ("names", np.frombuffer(b"[" * 100_000, np.uint8), "not a codebook"),
        ("space.words", np.zeros((2, 4), np.float16), "different shape"),
        ("space.words", np.zeros(3, np.float16), "different shape"),
        ("space.words", np.full((3, 4), np.inf, np.float16), "length 1"),
        ("space.words", np.zeros((3, 4), np.float32), "unexpected or missing"),
        ("space.more", np.zeros((3, 4), np.float16), "unexpected or missing"),
        ("../../x", np.zeros(1, np.float16), "unexpected or missing"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, name, value, message):
    tensors, entry = tensors_and_entry()
    with pytest.raises(SceneFileError, match=message):
        read_parts(tmp_path, tensors | {name: value}, entry)


@pytest.mark.parametrize(
    "entry",
    [
        {"format": 2, "spaces": ["words", "lexicon"]},
        {"format": 1, "spaces": ["words"]},
        {"format": 1, "spaces": ["words", "lexicon", "more"]},
        {"format": 1, "spaces": [["words"], {}]},
        {"format": 1, "spaces": "words"},
        {"format": 1},
        None,
        [],
    ],
)
def test_wrong_entry_is_refused(tmp_path, entry):
    with pytest.raises(SceneFileError, match=r"c\.safetensors is not a codebook"):
        read_parts(tmp_path, tensors_and_entry()[0], entry)


def header_attack(change) -> bytes:
    content = codebook_bytes(random_codebook(rows=3))
    size = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.replace(b'"levels"', b'"counts"'),
        lambda h: h.replace(
            b'{"__metadata__"',
            b'{"levels":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},"__metadata__"',
        ),
        lambda h: h.replace(b'"I8"', b'"BF16"'),
        lambda h: h.replace(b'"shape":[3]', b'"shape":[3000000000]'),
        lambda h: h.replace(b'"shape":[3]', b'"shape":[-3]'),
        lambda h: h.replace(b'"__metadata__":{', b'"__metadata__":null,"x":{'),
        lambda h: b"[" * len(h),
        lambda h: h + b" " * 70_000,
        lambda h: b"",
        lambda h: b"\xff" * len(h),
    ],
)
def test_header_attacks_are_refused(tmp_path, change):
    path = tmp_path / "c.safetensors"
    path.write_bytes(header_attack(change))
    with pytest.raises(SceneFileError, match="not a codebook"):
        read_codebook(path)


@pytest.mark.parametrize("content", [b"", b"1234", b"\xff" * 8, b"\x00" * 8, bytes(100)])
def test_files_of_other_kinds_are_refused(tmp_path, content):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(SceneFileError, match="not a codebook"):
        read_codebook(path)


def test_truncated_and_longer_files_are_refused(tmp_path):
    path, content = tmp_path / "c.safetensors", codebook_bytes(random_codebook())
    for wrong in (content[:-1], content[: len(content) // 2], content + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(SceneFileError, match="not a codebook"):
            read_codebook(path)


def test_size_limit(tmp_path, monkeypatch):
    write_codebook(random_codebook(), tmp_path / "c")
    monkeypatch.setattr("ffsplat.io.codebook_file.MAX_BYTES", 1000)
    with pytest.raises(SceneFileError, match="more than 1000"):
        read_codebook(tmp_path / "c")


def test_broken_codebook_is_not_written(tmp_path):
    broken = replace(random_codebook(), counts=np.full(50, np.nan, np.float32))
    with pytest.raises(SceneFileError, match="count"):
        write_codebook(broken, tmp_path / "c")
    assert not list(tmp_path.iterdir())


def test_digest_is_checked(tmp_path):
    path = tmp_path / "c.safetensors"
    write_codebook(random_codebook(), path)
    reference = CodebookReference.of(random_codebook(), path.read_bytes(), path.name, 4)
    assert len(read_codebook(path, reference.sha256)) == 50
    with pytest.raises(SceneFileError, match="not the codebook"):
        read_codebook(path, "0" * 64)


@pytest.mark.parametrize("file", ["a.safetensors", "two words=é\udcff.safetensors", "end_header"])
def test_reference_survives_its_comment(file):
    reference = CodebookReference(file, "0f" * 32, 50, 16, 4)
    assert reference.note().isascii()
    assert CodebookReference.parse(reference.note(), "a.ply") == reference


def test_sidecar_name():
    assert str(sidecar_path("out/my.scene.ply")) == "out/my.scene.codebook.safetensors"


def test_a_link_leads_to_the_codebook_beside_its_file(tmp_path):
    for name in ("real", "links"):
        (tmp_path / name).mkdir()
    scene, link = tmp_path / "real" / "a.ply", tmp_path / "links" / "b.ply"
    save_scene(random_scene(6), scene)
    link.symlink_to(scene)
    found = load_scene(link).codebook
    assert found is not None
    assert found.names == random_scene(6).codebook.names
    write_codebook(random_codebook(seed=3), tmp_path / "links" / "b.codebook.safetensors")
    with pytest.raises(SceneFileError, match=r"links/b\.codebook.* is not the codebook"):
        load_scene(link)
