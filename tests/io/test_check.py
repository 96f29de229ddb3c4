import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffsplat.errors import SceneFileError
from ffsplat.io import RULES, check_ply, describe, save_scene
from tests.io.scenes import random_codebook, random_scene

N = 6


def swap(old: bytes, new: bytes):
    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return change


def number(column: int, value: float):
    """Set one column of the third row; the file has 26 columns, cb_id at 17, cb_w at 21."""

    def change(content: bytes) -> bytes:
        at = len(content) - N * 26 * 4 + (2 * 26 + column) * 4
        return content[:at] + struct.pack("<f", value) + content[at + 4 :]

    return change


BROKEN = [
    ("readable", lambda c: b"solid" + c),
    ("readable", swap(b"binary_little_endian", b"ascii")),
    ("readable", swap(b"property float opacity", b"property float transparency")),
    ("header-size", swap(b"end_header", b"comment " + b"x" * 10_000 + b"\nend_header")),
    (
        "line-ends",
        lambda c: c.split(b"end_h")[0].replace(b"\n", b"\r\n") + b"end_h" + c.split(b"end_h")[1],
    ),
    ("one-element", swap(b"end_header", b"element camera 0\nproperty float f\nend_header")),
    ("one-element", swap(b"element vertex", b"comment early\nelement vertex")),
    ("obj-info", swap(b"comment", b"obj_info 1\ncomment")),
    ("float-only", swap(b"float cb_id_0", b"int cb_id_0")),
    ("float-only", swap(b"float x", b"float32 x")),
    ("standard-block", swap(b"property float ny", b"property float my")),
    ("standard-block", swap(b"float x\nproperty float y", b"float y\nproperty float x")),
    ("names", swap(b"property float cb_instance", b"property float sem_instance")),
    ("names", swap(b"property float cb_instance", b"property float red")),
    ("names", swap(b"property float cb_instance", b"property float scale_x")),
    ("comments", swap(b"comment Splat", b"comment packed_ Splat")),
    ("file-size", lambda c: c[:-1]),
    ("file-size", lambda c: c + b"\0"),
    ("count", lambda c: swap(b"vertex 6", b"vertex 0")(c[: -N * 26 * 4])),
    ("finite", number(0, np.nan)),
    ("finite", number(10, -np.inf)),
    ("finite", number(10, 88.5)),
    ("quaternion", number(13, 1.5)),
    ("ids", number(17, 2.5)),
    ("ids", number(17, 50)),
    ("ids", number(25, -3)),
    ("weights", number(21, -0.25)),
    ("weights", number(21, 1.5)),
    ("codebook", swap(b"size=50", b"size=x")),
    ("codebook", swap(b"size=50", b"size=51")),
    ("codebook", swap(b"sha256=", b"sha256=0")),
]


@pytest.mark.parametrize("profile", ["ffsplat", "plain", "inria"])
@pytest.mark.parametrize("sh", [1, 16])
def test_our_files_break_no_rule(tmp_path, profile, sh):
    save_scene(random_scene(N, sh, meaning=True), tmp_path / "a.ply", profile=profile)
    assert check_ply(tmp_path / "a.ply") == []


@pytest.mark.parametrize(("rule", "change"), BROKEN)
def test_broken_rule_is_named(tmp_path, rule, change):
    path = tmp_path / "a.ply"
    save_scene(random_scene(N), path)
    path.write_bytes(change(path.read_bytes()))
    violations = check_ply(path)
    assert rule in {violation.rule for violation in violations}
    assert {violation.rule for violation in violations} <= set(RULES)
    assert all(violation.message for violation in violations)


def test_every_rule_has_a_failing_file():
    assert {rule for rule, _ in BROKEN} == set(RULES)


def test_codebook_absent_or_of_another_scene(tmp_path):
    save_scene(random_scene(N), tmp_path / "a.ply")
    sidecar = tmp_path / "a.codebook.safetensors"
    other = replace(random_scene(N), codebook=random_codebook(seed=3))
    save_scene(other, tmp_path / "b.ply")
    (tmp_path / "b.codebook.safetensors").replace(sidecar)
    assert [v.rule for v in check_ply(tmp_path / "a.ply")] == ["codebook"]
    sidecar.unlink()
    (violation,) = check_ply(tmp_path / "a.ply")
    assert violation.rule == "codebook"
    assert "a.codebook.safetensors" in violation.message


def test_faults_are_counted(tmp_path):
    path = tmp_path / "a.ply"
    save_scene(random_scene(N), path)
    path.write_bytes(number(1, np.inf)(path.read_bytes()))
    assert [v.message for v in check_ply(path)] == ["1 rows hold NaN or infinity"]


def test_missing_file_is_an_error():
    with pytest.raises(SceneFileError, match="cannot read"):
        check_ply(Path("absent.ply"))


def test_description(tmp_path):
    scene = random_scene(N, sh=4)
    save_scene(scene, tmp_path / "a.ply")
    facts = describe(tmp_path / "a.ply")
    assert facts["gaussians"] == N
    assert facts["bytes"] == (tmp_path / "a.ply").stat().st_size
    assert facts["sh_degree"] == 1
    assert facts["bounding_box"]["min"] == scene.gaussians.means.min(axis=0).tolist()
    assert facts["bounding_box"]["max"] == scene.gaussians.means.max(axis=0).tolist()
    assert facts["extra_properties"][0] == "cb_id_0"
    assert len(facts["extra_properties"]) == 9
    assert facts["metric"] is True
    assert facts["codes"] == 4
    assert facts["instances"] == len(set(scene.instances.tolist()) - {-1})
    assert facts["codebook"] == {"rows": 50, "spaces": {"words": 16, "lexicon": 50}}
    assert facts["provenance"] == scene.provenance


def test_description_of_a_plain_file(tmp_path):
    save_scene(random_scene(N), tmp_path / "a.ply", profile="inria")
    facts = describe(tmp_path / "a.ply")
    assert (facts["sh_degree"], facts["codes"], facts["instances"]) == (3, 0, 0)
    assert facts["codebook"] is None
    assert facts["provenance"] == {}
