import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.io import load_scene, read_ply, save_scene, write_ply
from ffsplat.io.layout import BLOCK_ROWS
from ffsplat.types import Gaussians, Scene, SparseCode
from tests.io.scenes import random_codebook, random_scene

ONE_HEADER = """ply
format binary_little_endian 1.0
element vertex 1
property float x
property float y
property float z
property float nx
property float ny
property float nz
property float f_dc_0
property float f_dc_1
property float f_dc_2
property float f_rest_0
property float f_rest_1
property float f_rest_2
property float f_rest_3
property float f_rest_4
property float f_rest_5
property float f_rest_6
property float f_rest_7
property float f_rest_8
property float opacity
property float scale_0
property float scale_1
property float scale_2
property float rot_0
property float rot_1
property float rot_2
property float rot_3
property float cb_id_0
property float cb_id_1
property float cb_w_0
property float cb_w_1
property float cb_instance
comment ffsplat.format 1
comment ffsplat.metric true
comment ffsplat.model ffsplat-tiny
comment SplatRenderMode: default
end_header
"""
RED, GREEN, BLUE = (0.5, 0.25, -0.5), (1, 2, 3), (4, 5, 6)
LN2, LOGIT_THREE_QUARTERS = 0.6931471805599453, 1.0986122886681098
ONE_BODY = [
    *(1, 2, 3, 0, 0, 0),
    *(0.125, 0.25, 0.375),
    *(*RED, *GREEN, *BLUE),
    LOGIT_THREE_QUARTERS,
    *(0, LN2, -LN2),
    *(0.5, -0.5, 0.5, 0.5),
    *(7, -1, 1, 0, 3),
]
ONE_FILE = ONE_HEADER.encode() + struct.pack(f"<{len(ONE_BODY)}f", *ONE_BODY)


def one_gaussian() -> Scene:
    def row(*values: float) -> np.ndarray:
        return np.array([values], np.float32)

    sh = np.array([[[0.125, 0.25, 0.375], *zip(RED, GREEN, BLUE, strict=True)]], np.float32)
    opacities = np.array([0.75], np.float32)
    return Scene(
        Gaussians(row(1, 2, 3), row(1, 2, 0.5), row(0.5, -0.5, 0.5, 0.5), opacities, sh),
        SparseCode(np.int16([[7, -1]]), np.float16([[1, 0]]), np.float16([1])),
        instances=np.int32([3]),
        metric=True,
        provenance={"model": "ffsplat-tiny"},
    )


def assert_same(a: Scene, b: Scene, tolerance: float = 0) -> None:
    """Equal scenes; scale, opacity and rotation to a relative tolerance."""
    one, two = a.gaussians, b.gaussians
    assert np.array_equal(one.means, two.means)
    assert np.array_equal(one.sh, two.sh)
    np.testing.assert_allclose(one.scales, two.scales, rtol=tolerance)
    np.testing.assert_allclose(one.opacities, two.opacities, rtol=tolerance)
    np.testing.assert_allclose(one.quaternions_wxyz, two.quaternions_wxyz, atol=tolerance)
    assert (one.meaning_opacities is None) == (two.meaning_opacities is None)
    if one.meaning_opacities is not None:
        np.testing.assert_allclose(one.meaning_opacities, two.meaning_opacities, rtol=tolerance)
    assert (a.codes is None) == (b.codes is None)
    if a.codes and b.codes:
        assert np.array_equal(a.codes.ids, b.codes.ids)
        assert np.array_equal(a.codes.weights, b.codes.weights)
        np.testing.assert_allclose(a.codes.norms, b.codes.norms, rtol=2e-3)
    assert (a.instances is None) == (b.instances is None)
    if a.instances is not None:
        assert np.array_equal(a.instances, b.instances)
    assert (a.metric, a.provenance) == (b.metric, b.provenance)


def test_written_bytes_are_those_made_by_hand(tmp_path):
    write_ply(one_gaussian(), tmp_path / "one.ply")
    assert (tmp_path / "one.ply").read_bytes() == ONE_FILE


def test_an_opacity_for_meaning_is_one_more_column(tmp_path):
    scene = one_gaussian()
    meaning = np.array([0.25], np.float32)
    scene = replace(scene, gaussians=replace(scene.gaussians, meaning_opacities=meaning))
    write_ply(scene, tmp_path / "one.ply")
    column = "property float cb_instance\n"
    header = ONE_HEADER.replace(column, f"{column}property float cb_opacity\n")
    body = struct.pack(f"<{len(ONE_BODY) + 1}f", *ONE_BODY, -LOGIT_THREE_QUARTERS)
    assert (tmp_path / "one.ply").read_bytes() == header.encode() + body
    assert_same(read_ply(tmp_path / "one.ply"), scene, tolerance=1e-7)
    for profile in ("plain", "inria"):
        write_ply(scene, tmp_path / f"{profile}.ply", profile=profile)
        assert read_ply(tmp_path / f"{profile}.ply").gaussians.meaning_opacities is None


def test_bytes_made_by_hand_are_read(tmp_path):
    (tmp_path / "one.ply").write_bytes(ONE_FILE)
    assert_same(read_ply(tmp_path / "one.ply"), one_gaussian(), tolerance=1e-7)


@pytest.mark.parametrize("sh", [1, 4, 9, 16])
@pytest.mark.parametrize("codes", [0, 1, 4])
@pytest.mark.parametrize("meaning", [False, True])
def test_round_trip(tmp_path, sh, codes, meaning):
    scene = random_scene(300, sh, codes, meaning=meaning)
    save_scene(scene, tmp_path / "a.ply")
    back = load_scene(tmp_path / "a.ply")
    assert_same(back, scene, tolerance=1e-6)
    assert list(back.codebook.spaces if back.codebook else []) == (
        ["words", "lexicon"] if codes else []
    )
    (tmp_path / "b").mkdir()
    save_scene(back, tmp_path / "b" / "a.ply")
    for path in (tmp_path / "b").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_round_trip_over_many_blocks_and_threads(tmp_path):
    scene = random_scene(17 * BLOCK_ROWS + 5, codes=2, meaning=True)
    save_scene(scene, tmp_path / "a.ply")
    assert_same(load_scene(tmp_path / "a.ply"), scene, tolerance=1e-6)


def test_extreme_values_stay_within_the_format(tmp_path):
    scene = random_scene(4, codes=0)
    scene.gaussians.opacities[:] = (0, 1, 1e-9, 0.5)
    scene.gaussians.scales[:, 0] = (0, 1e-45, 1e30, 1)
    scene.gaussians.quaternions_wxyz[0] *= 1000
    write_ply(scene, tmp_path / "a.ply")
    once = read_ply(tmp_path / "a.ply")
    np.testing.assert_allclose(once.gaussians.opacities, [1e-6, 1 - 1e-6, 1e-6, 0.5], rtol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(once.gaussians.quaternions_wxyz, axis=1), 1, rtol=1e-6
    )
    assert np.all(once.gaussians.scales > 0)
    write_ply(once, tmp_path / "b.ply")
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_norms_without_a_codebook_and_with_a_large_one(tmp_path, monkeypatch):
    scene = random_scene(20)
    save_scene(scene, tmp_path / "a.ply")
    monkeypatch.setattr("ffsplat.io.ply.MAX_GRAM", 3)
    large = load_scene(tmp_path / "a.ply")
    assert_same(large, scene, tolerance=1e-6)
    (tmp_path / "a.codebook.safetensors").unlink()
    codes = load_scene(tmp_path / "a.ply").codes
    assert codes is not None
    expected = np.linalg.norm(codes.weights.astype(float), axis=1)
    np.testing.assert_allclose(codes.norms, expected, rtol=1e-3)


def test_profiles(tmp_path):
    scene = random_scene(5, sh=4)
    for profile in ("plain", "inria"):
        save_scene(scene, tmp_path / f"{profile}.ply", profile=profile)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inria.ply", "plain.ply"]
    plain, inria = PlyData.read(tmp_path / "plain.ply"), PlyData.read(tmp_path / "inria.ply")
    assert len(plain["vertex"].properties) == 17 + 9
    assert any("ffsplat.model" in comment for comment in plain["vertex"].comments)
    assert [p.name for p in inria["vertex"].properties][9:54] == [f"f_rest_{i}" for i in range(45)]
    assert len(inria["vertex"].properties) == 62
    assert inria.comments == inria["vertex"].comments == []
    back = read_ply(tmp_path / "inria.ply").gaussians
    assert np.array_equal(back.sh[:, :4], scene.gaussians.sh)
    assert not back.sh[:, 4:].any()


@pytest.mark.parametrize("order", ["<", ">"])
def test_file_by_another_tool(tmp_path, order):
    """Other column order, other types, no normals, labels, a second element, aliases."""
    scene = random_scene(50, sh=4)
    save_scene(scene, tmp_path / "ours.ply")
    ours = PlyData.read(tmp_path / "ours.ply")["vertex"].data
    names = [n for n in reversed(ours.dtype.names) if n not in ("nx", "ny", "nz")]
    kinds = {"x": "f8", "cb_id_1": "i2", "cb_id_2": "u1", "cb_instance": "i4"}
    table = np.zeros(len(ours), [("label", "u1"), *((n, kinds.get(n, "f4")) for n in names)])
    keep = ours["cb_id_2"] >= 0
    for name in names:
        table[name] = ours[name]
    extra = PlyElement.describe(np.zeros(3, [("a", "i4")]), "camera")
    vertex = PlyElement.describe(table[keep], "vertex")
    PlyData([extra, vertex], byte_order=order, comments=["by hand"]).write(tmp_path / "b.ply")
    content = (tmp_path / "b.ply").read_bytes()
    (tmp_path / "b.ply").write_bytes(content.replace(b"float scale_0", b"float32 scale_0", 1))
    back = read_ply(tmp_path / "b.ply", codebook=tmp_path / "ours.codebook.safetensors")
    assert_same(
        replace(back, metric=True, provenance=scene.provenance), scene[keep], tolerance=1e-6
    )


def test_codebook_is_found_in_the_promised_order(tmp_path):
    scene = random_scene(5)
    save_scene(scene, tmp_path / "a.ply")
    sidecar = tmp_path / "a.codebook.safetensors"
    moved = tmp_path / "b.ply"
    (tmp_path / "a.ply").rename(moved)
    assert load_scene(moved).codebook is not None  # the comment's name
    sidecar.rename(tmp_path / "b.codebook.safetensors")
    assert load_scene(moved).codebook is not None  # the scene's own name
    (tmp_path / "b.codebook.safetensors").rename(tmp_path / "codebook.safetensors")
    assert load_scene(moved).codebook is not None  # the common name
    (tmp_path / "codebook.safetensors").rename(tmp_path / "elsewhere")
    assert load_scene(moved).codebook is None
    assert load_scene(moved, tmp_path / "elsewhere").codebook is not None


@pytest.mark.parametrize("name", ["x" * 300, "\\ud800", "\\udcff"])
def test_impossible_codebook_name_counts_as_absent(tmp_path, name):
    save_scene(random_scene(5), tmp_path / "a.ply")
    content = (tmp_path / "a.ply").read_bytes()
    changed = content.replace(b"file=a.codebook.safetensors", b"file=" + name.encode(), 1)
    assert changed != content
    (tmp_path / "a.ply").write_bytes(changed)
    assert load_scene(tmp_path / "a.ply").codebook is not None  # by the scene's own name


def test_codebook_of_another_scene_is_refused(tmp_path):
    save_scene(random_scene(5), tmp_path / "a.ply")
    save_scene(replace(random_scene(5), codebook=random_codebook(seed=9)), tmp_path / "b.ply")
    with pytest.raises(SceneFileError, match="not the codebook"):
        load_scene(tmp_path / "a.ply", tmp_path / "b.codebook.safetensors")
    with pytest.raises(SceneFileError, match="cannot read"):
        load_scene(tmp_path / "a.ply", tmp_path / "absent")


def test_codebook_too_small_for_the_ids(tmp_path):
    save_scene(random_scene(5), tmp_path / "a.ply")
    small = replace(random_scene(1, codes=1), codebook=random_codebook(rows=3))
    save_scene(replace(small, codes=small.codes), tmp_path / "b.ply")
    content = (tmp_path / "a.ply").read_bytes().split(b"\n")
    bare = b"\n".join(line for line in content if not line.startswith(b"comment ffsplat.codebook"))
    (tmp_path / "a.ply").write_bytes(bare)
    with pytest.raises(SceneFileError, match=r"have a codebook ID outside -1\.\.2"):
        load_scene(tmp_path / "a.ply", tmp_path / "b.codebook.safetensors")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("file=a.codebook.safetensors", "file=../a.codebook.safetensors", "outside its own folder"),
        ("file=a.codebook.safetensors", "file=/etc/passwd", "outside its own folder"),
        ("file=a.codebook.safetensors", "file=\\u002e\\u002e", "outside its own folder"),
        ("file=a.codebook.safetensors", "file=", "outside its own folder"),
        ("sha256=", "sha256=x", "malformed"),
        ("size=50", "size=49", "50 rows, a.ply needs 49"),
        ("size=50", "size=-1", "malformed"),
        ("dim=16", "", "malformed"),
    ],
)
def test_hostile_codebook_comment(tmp_path, old, new, message):
    save_scene(random_scene(5), tmp_path / "a.ply")
    content = (tmp_path / "a.ply").read_bytes()
    assert old.encode() in content
    (tmp_path / "a.ply").write_bytes(content.replace(old.encode(), new.encode(), 1))
    with pytest.raises(SceneFileError, match=message):
        load_scene(tmp_path / "a.ply")


def test_names_that_upset_readers_come_back(tmp_path):
    provenance = {"model": "a chunk of packed_ f_rest_ end_header", "note": 'é "q" \\ =', "n": ""}
    scene = replace(random_scene(2), provenance=provenance)
    path = tmp_path / "two words=é chunk.ply"
    save_scene(scene, path)
    assert load_scene(path).provenance == provenance
    assert load_scene(path).codebook is not None
    header = path.read_bytes().split(b"end_header\n")[0]
    assert header.isascii()
    assert b"chunk" not in header


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[:0], "no Gaussians"),
        (lambda s: replace(s, provenance={"model": "x" * 11_000}), "header of"),
        (lambda s: replace(s, instances=np.full(5, 1 << 24, np.int32)), "bad instance"),
        (lambda s: replace(s, codes=replace(s.codes, ids=s.codes.ids + 50)), "outside -1..49"),
        (
            lambda s: replace(s, gaussians=replace(s.gaussians, means=s.gaussians.means * np.nan)),
            "5 hold NaN",
        ),
        (
            lambda s: replace(
                s, gaussians=replace(s.gaussians, quaternions_wxyz=np.zeros((5, 4), np.float32))
            ),
            "5 have a zero quaternion",
        ),
        (
            lambda s: replace(
                s, gaussians=replace(s.gaussians, sh=np.zeros((5, 25, 3), np.float32))
            ),
            "25 SH coefficients",
        ),
    ],
)
def test_scene_that_the_format_cannot_hold(tmp_path, change, message):
    with pytest.raises(OutputError, match=message):
        save_scene(change(random_scene(5)), tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())


def test_existing_sidecar_is_not_replaced(tmp_path):
    (tmp_path / "a.codebook.safetensors").write_bytes(b"mine")
    with pytest.raises(OutputError, match="already exists"):
        save_scene(random_scene(5), tmp_path / "a.ply")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]


def test_faulty_rows_are_counted_over_all_blocks(tmp_path):
    scene = random_scene(2 * BLOCK_ROWS, codes=0)
    write_ply(scene, tmp_path / "a.ply")
    content = bytearray((tmp_path / "a.ply").read_bytes())
    for row in (0, 1, 2 * BLOCK_ROWS - 1):
        start = len(content) - (2 * BLOCK_ROWS - row) * 17 * 4
        content[start : start + 4] = struct.pack("<f", np.nan)
    scale = len(content) - 17 * 4 * 2 + 10 * 4
    content[scale : scale + 4] = struct.pack("<f", 89)
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(SceneFileError, match=f"of {2 * BLOCK_ROWS} Gaussians 3 hold NaN"):
        read_ply(tmp_path / "a.ply")
    content[scale + 17 * 4 - 4 * 10 :] = content[scale - 4 * 10 : scale + 17 * 4 - 4 * 10]
    start = len(content) - 2 * BLOCK_ROWS * 17 * 4
    content[start : start + 17 * 8] = content[start + 17 * 8 : start + 17 * 16]
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(SceneFileError, match="2 have a scale beyond float32"):
        read_ply(tmp_path / "a.ply")


def test_memory_stays_near_the_size_of_the_file(tmp_path):
    write_ply(random_scene(50_000, sh=16, codes=0), tmp_path / "a.ply")
    size = (tmp_path / "a.ply").stat().st_size
    tracemalloc.start()
    scene = read_ply(tmp_path / "a.ply")
    read_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    write_ply(scene, tmp_path / "b.ply")
    write_peak = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    assert read_peak < 2.5 * size
    assert write_peak < size
