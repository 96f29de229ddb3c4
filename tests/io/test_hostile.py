"""Whatever a file holds: a scene or SceneFileError, without much memory."""

import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ffsplat.errors import SceneFileError
from ffsplat.io import check_ply, load_scene, save_scene
from ffsplat.types import Scene
from tests.io.scenes import random_scene

FUZZ_SECONDS = float(os.environ.get("FFSPLAT_FUZZ_SECONDS", "5"))
WORDS = [
    b"ply",
    b"format binary_little_endian 1.0",
    b"format binary_big_endian 1.0",
    b"format ascii 1.0",
    b"element vertex 6",
    b"element vertex 2147483648",
    b"element vertex 9223372036854775807",
    b"element vertex -1",
    b"element vertex 1e9",
    b"element face 4294967295",
    b"element other 0",
    b"property float y",
    b"property double z",
    b"property uchar opacity",
    b"property list uchar int vertex_indices",
    b"property float f_rest_0",
    b"property float cb_id_4",
    b"property float cb_w_4",
    b"comment ffsplat.codebook file=a.codebook.safetensors sha256=00 size=1 dim=1 topk=1",
    b"comment ffsplat.metric \\ud800",
    b"comment " + b"x" * 5000,
    b"end_header",
    b"",
    b"\r",
    b"\xff\x00",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    save_scene(random_scene(6, sh=4), folder / "a.ply")
    save_scene(random_scene(4000, sh=16), folder / "large.ply")
    return folder


def outcome(path: Path, content: bytes) -> Scene | None:
    """The scene, or None where it was refused; any other exception fails the test.

    Whatever is refused breaks a rule that `check` knows.
    """
    path.write_bytes(content)
    violations = check_ply(path)
    try:
        return load_scene(path)
    except SceneFileError as error:
        if not violations:
            pytest.fail(f"check finds nothing, but reading says: {error}")
        return None


PARTS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "replace", "delete"]), st.integers(0, 60), st.sampled_from(WORDS)
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    PARTS,
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=8)), max_size=4),
    st.integers(-8, 8),
)
def test_mutated_files_are_read_or_refused(folder, lines, bytes_, extra):
    head, body = (folder / "a.ply").read_bytes().split(b"end_header\n", 1)
    header = head.split(b"\n")
    for action, place, word in lines:
        place %= len(header)
        header[place : place + (action != "insert")] = [] if action == "delete" else [word]
    changed = bytearray(body + bytes(8))
    for place, content in bytes_:
        changed[place % len(body) : place % len(body) + len(content)] = content
    content = b"\n".join(header) + b"end_header\n" + changed[: len(body) + extra]
    scene = outcome(folder / "b.ply", content)
    if scene is not None:
        assert np.isfinite(scene.gaussians.means).all()
        assert np.isfinite(scene.gaussians.scales).all()
        np.testing.assert_allclose(
            np.linalg.norm(scene.gaussians.quaternions_wxyz, axis=1), 1, atol=1e-5
        )


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300))
def test_noise_is_refused(folder, content):
    assert outcome(folder / "b.ply", content) is None
    assert outcome(folder / "b.ply", b"ply\n" + content) is None


def test_random_damage_for_a_while(folder):
    random = np.random.default_rng(time.time_ns())
    originals = [(folder / "a.ply").read_bytes(), (folder / "a.codebook.safetensors").read_bytes()]
    paths = [folder / "f.ply", folder / "f.codebook.safetensors"]
    end = time.monotonic() + FUZZ_SECONDS
    count = 0
    while time.monotonic() < end:
        which = count % 2
        damaged = bytearray(originals[which])
        for _ in range(random.integers(1, 6)):
            place = random.integers(len(damaged))
            damaged[place : place + random.integers(3)] = random.bytes(random.integers(3))
        paths[which].write_bytes(damaged)
        paths[1 - which].write_bytes(originals[1 - which])
        count += 1
        outcome(paths[0], paths[0].read_bytes())
    assert count > 10


def test_truncation_at_any_place_is_refused(folder):
    content = (folder / "a.ply").read_bytes()
    places = np.random.default_rng(0).integers(0, len(content), 100)
    for place in [*places, len(content) - 1]:
        assert outcome(folder / "b.ply", content[:place]) is None


@pytest.mark.parametrize("count", ["2147483648", "9223372036854775807", "-1", "1e9", "4000000000"])
def test_lying_counts_cost_nothing(folder, count):
    content = (folder / "a.ply").read_bytes().replace(b"vertex 6", b"vertex " + count.encode(), 1)
    (folder / "b.ply").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(SceneFileError, match=r"truncated|element count"):
        load_scene(folder / "b.ply")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_endless_header_costs_little(folder):
    (folder / "b.ply").write_bytes(b"ply\n" + b"comment x\n" * 2_000_000)
    tracemalloc.start()
    with pytest.raises(SceneFileError, match="no end_header"):
        load_scene(folder / "b.ply")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_memory_is_bounded_by_the_file(folder):
    size = (folder / "large.ply").stat().st_size
    tracemalloc.start()
    load_scene(folder / "large.ply")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * size + 64e6
