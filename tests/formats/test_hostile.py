"""Whatever a file holds: a scene or one SceneFileError, without much memory."""

import gzip
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ffsplat.errors import SceneFileError
from ffsplat.formats import FORMATS, read_scene, write_scene
from tests.formats.scenes import SPLATS, name_of, small_scene

ROUNDS = 120
MAX_GROWTH = 24e6
"""Bytes that reading a damaged file of 600 Gaussians may take."""

VARIANTS = [(name, {}) for name in SPLATS if name != "ply"]
VARIANTS += [("spz", {"spz_version": version}) for version in "24"]


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda v: "".join([v[0], *v[1].values()]))
def original(request, tmp_path_factory) -> tuple[str, bytes, Path]:
    """The name of a format, a good file, and where to write a bad one."""
    format_, options = request.param
    path = tmp_path_factory.mktemp("hostile") / name_of(format_)
    write_scene(small_scene(4, count=300), path, **options)
    return format_, path.read_bytes(), path


def outcome(path: Path, content: bytes) -> bool:
    """Whether the file is read; any exception but SceneFileError fails the test."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        scene = read_scene(path)
    except SceneFileError as error:
        if "\n" in str(error):
            pytest.fail(f"more than one line: {error}")
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MAX_GROWTH, peak
    assert np.isfinite(scene.gaussians.means).all()
    assert np.isfinite(scene.gaussians.scales).all()
    lengths = np.linalg.norm(scene.gaussians.quaternions_wxyz, axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    return True


def test_truncation_at_any_place_is_refused(original):
    format_, content, path = original
    step = 32 if format_ == "splat" else 1  # a .splat cut between rows is a shorter .splat
    places = np.random.default_rng(0).integers(0, len(content), ROUNDS)
    for place in [0, 1, 4, len(content) - 1, *places]:
        if place % step or step == 1:
            assert not outcome(path, content[:place]), place


def test_mutated_bytes_are_read_or_refused(original):
    _, content, path = original
    random = np.random.default_rng(1)
    for _ in range(ROUNDS):
        damaged = bytearray(content)
        for _ in range(random.integers(1, 6)):
            place = random.integers(min(len(content), 600 if random.random() < 0.5 else 1 << 30))
            damaged[place : place + random.integers(4)] = random.bytes(random.integers(4))
        outcome(path, bytes(damaged))


def test_noise_is_refused(original):
    format_, content, path = original
    random = np.random.default_rng(2)
    for size in (0, 1, 31, 33, 1000, 5000):
        if format_ != "splat" or size % 32:
            assert not outcome(path, random.bytes(size))
            assert not outcome(path, content[:8] + random.bytes(size))


def test_json_inside_may_be_anything(original):
    """The structure of glTF and safetensors is JSON: any value may be of any kind."""
    format_, content, path = original
    if format_ not in ("gltf", "safetensors"):
        pytest.skip("no JSON that the reader walks")
    start = 20 if format_ == "gltf" else 8
    size = struct.unpack_from("<I" if format_ == "gltf" else "<Q", content, start - 8)[0]
    document, rest = json.loads(content[start : start + size]), content[start + size :]
    random = np.random.default_rng(3)
    for _ in range(ROUNDS // 2):
        text = json.dumps(_with_other_value(document, random)).encode()
        text += b" " * (-len(text) % 8)
        if format_ == "gltf":
            total = 20 + len(text) + len(rest)
            head = struct.pack("<4sIIII", b"glTF", 2, total, len(text), 0x4E4F534A)
        else:
            head = struct.pack("<Q", len(text))
        outcome(path, head + text + rest)


ODD = [None, -1, 0, 1, 2**40, 10**400, 1e300, "", "x", [], {}, [0], True, [[1]], {"a": 1}]


def _with_other_value(document, random):
    """The document with one value, anywhere in it, replaced or removed."""
    copy = json.loads(json.dumps(document))
    place = copy
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[random.integers(len(keys))]
        deeper = place[key]
        if not isinstance(deeper, dict | list) or not deeper or random.random() < 0.2:
            break
        place = deeper
    if random.random() < 0.2:
        del place[key]
    else:
        place[key] = ODD[random.integers(len(ODD))]
    return copy


def test_spz_that_promises_much_costs_little(tmp_path):
    path = tmp_path / "a.spz"
    header = struct.pack("<4sIIBBBB", b"NGSP", 3, 200_000_000, 3, 12, 0, 0)
    assert not outcome(path, gzip.compress(header + bytes(100)))
    bomb = struct.pack("<4sIIBBBB", b"NGSP", 3, 10, 0, 12, 0, 0) + bytes(100_000_000)
    outcome(path, gzip.compress(bomb))


def test_npz_bombs_and_pickles_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    write_scene(small_scene(count=10), path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez_compressed(path, **arrays)  # numpy's own file is read too
    assert len(read_scene(path)) == 10
    np.savez_compressed(path, **arrays, notes2=np.zeros(10))
    assert not outcome(path, path.read_bytes())
    arrays["means"] = np.array([object()], object)
    np.savez(path, allow_pickle=True, **arrays)
    assert not outcome(path, path.read_bytes())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 3)}"
        archive.writestr("means.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    assert not outcome(path, path.read_bytes())


def test_sog_bombs_are_refused(tmp_path):
    path = tmp_path / "a.sog"
    write_scene(small_scene(), path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(files["meta.json"])
    for change in ({"count": 10**8}, {"count": -1}, {"count": "7"}, {"version": 3}, {"means": 7}):
        _pack(path, files | {"meta.json": json.dumps(meta | change).encode()})
        assert not outcome(path, path.read_bytes()), change
    _pack(path, files | {"meta.json": b" " * (1 << 22) + files["meta.json"]})
    assert not outcome(path, path.read_bytes())


def test_damaged_images_in_a_sound_sog(tmp_path):
    path, random = tmp_path / "a.sog", np.random.default_rng(4)
    write_scene(small_scene(4, count=300), path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name in [name for name in files if name != "meta.json"] * 8:
        damaged = bytearray(files[name])
        for place in random.integers(len(damaged), size=3):
            damaged[place] = random.integers(256)
        _pack(path, files | {name: bytes(damaged)})
        outcome(path, path.read_bytes())


def test_meta_of_sog_may_be_anything(tmp_path):
    path, random = tmp_path / "a.sog", np.random.default_rng(5)
    write_scene(small_scene(4, count=300), path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(files["meta.json"])
    for _ in range(ROUNDS // 2):
        text = json.dumps(_with_other_value(meta, random)).encode()
        _pack(path, files | {"meta.json": text})
        outcome(path, path.read_bytes())


def _pack(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_gltf_reads_no_other_file(tmp_path):
    write_scene(small_scene(count=10), tmp_path / "a.gltf")
    document = json.loads((tmp_path / "a.gltf").read_text())
    for uri in ("/etc/passwd", "a.bin", "http://127.0.0.1/a.bin", "data:text/plain,a"):
        document["buffers"][0]["uri"] = uri
        assert not outcome(tmp_path / "b.gltf", json.dumps(document).encode())


def test_every_splat_format_is_tested_here():
    ours = [name for name, row in FORMATS.items() if row.reads and {"shapes"} <= row.carries]
    assert set(SPLATS) <= set(ours)
