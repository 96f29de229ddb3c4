"""`ffsplat edit`: the order of its options, what it writes, and what it refuses."""

import json

import numpy as np
import pytest
from command import run
from PIL import Image
from scipy.spatial.transform import Rotation

from ffsplat.edit import select
from ffsplat.grouping import Clustering, group_by_masks, group_instances, super_gaussians
from ffsplat.io import load_scene, write_cameras
from ffsplat.render import render
from ffsplat.types import Cameras

TABLE, SOFA = np.arange(1000) < 300, (np.arange(1000) >= 300) & (np.arange(1000) < 500)


@pytest.fixture
def edit(scene_file, tmp_path):
    """Run `ffsplat edit` and read what it wrote, with its report."""

    def call(*arguments):
        out = tmp_path / "edited.ply"
        outcome = run("edit", scene_file, *arguments, "-o", out, "--overwrite", "--json")
        assert outcome.code == 0, outcome.err
        return load_scene(out), json.loads(outcome.out)

    return call


def test_remove_and_extract_divide_the_scene(edit, scene):
    rest, report = edit("--select", "table", "--remove")
    np.testing.assert_array_equal(rest.gaussians.means, scene.gaussians.means[~TABLE])
    assert report["gaussians"] == {"before": 1000, "after": 700}
    assert report["steps"] == [
        {"chosen_by": ["--select table"], "chosen": 300, "operation": "--remove",
         "gaussians": 700, "warnings": []}
    ]  # fmt: skip
    part, _ = edit("--select", "table", "--extract")
    np.testing.assert_array_equal(part.gaussians.means, scene.gaussians.means[TABLE])


def test_groups_apply_in_the_order_in_which_they_stand(edit, scene):
    edited, report = edit(
        "--select", "table", "--recolor", "#0000ff", "--flat",
        "--select", "sofa", "--remove",
        "--select", "blue furniture", "--move", "0,-1,0",
    )  # fmt: skip
    assert [one["chosen"] for one in report["steps"]] == [300, 200, 300]
    assert len(edited) == 800
    np.testing.assert_allclose(edited.gaussians.colors[:300], [[0, 0, 1]] * 300, atol=1e-6)
    moved = scene.gaussians.means[TABLE] - [0, 1, 0]
    np.testing.assert_allclose(edited.gaussians.means[:300], moved, atol=1e-6)
    np.testing.assert_array_equal(edited.gaussians.means[300:], scene.gaussians.means[500:])


def test_selections_unite_and_hold_for_several_operations(edit, scene):
    edited, report = edit(
        "--select", "table", "--instance", 1, "--move", "1,0,0", "--move", "0,2,0"
    )
    assert [one["chosen"] for one in report["steps"]] == [500, 500]
    assert report["steps"][1]["chosen_by"] == ["--select table", "--instance 1"]
    expected = scene.gaussians.means[TABLE | SOFA] + [1, 2, 0]
    np.testing.assert_allclose(edited.gaussians.means[:500], expected, atol=1e-5)


def test_boxes_masks_and_everything(edit, tmp_path):
    np.save(tmp_path / "mask.npy", SOFA)
    for chosen, count in (
        (("--box", "-0.3,-0.3,1.7,0.3,0.3,2.3"), 300),
        (("--mask", tmp_path / "mask.npy"), 200),
        (("--all",), 1000),
    ):
        _, report = edit(*chosen, "--hue", "-30")
        assert report["steps"][0]["chosen"] == count


def test_turns_and_scales_are_about_the_centre_or_the_origin(edit, scene):
    means = scene.gaussians.means[TABLE].astype(np.float64)
    turn = Rotation.from_rotvec([0, 30, 0], degrees=True)
    edited, _ = edit("--select", "table", "--turn", "0,30,0", "--scale", 2)
    middle = means.mean(0)
    expected = middle + 2 * turn.apply(means - middle)
    np.testing.assert_allclose(edited.gaussians.means[:300], expected, atol=1e-5)
    edited, _ = edit("--select", "table", "--turn", "0,30,0", "--scale", 2, "--about", "origin")
    np.testing.assert_allclose(edited.gaussians.means[:300], 2 * turn.apply(means), atol=1e-5)
    np.testing.assert_allclose(edited.gaussians.scales[:300], 0.06, atol=1e-6)


def test_labels_are_found_in_the_file(edit):
    edited, report = edit("--select", "table", "--label", "piano", "--new-instance")
    assert report["steps"][0]["warnings"] == []
    np.testing.assert_array_equal(select(edited, "piano"), TABLE)
    assert edited.codebook.names[-1] == "piano"
    np.testing.assert_array_equal(edited.instances == 3, TABLE)
    edited, report = edit("--select", "table", "--label", "couch")
    assert report["steps"][0]["warnings"] == []
    np.testing.assert_array_equal(select(edited, "sofa"), TABLE | SOFA)


def test_texts_are_told_apart_from_labels(edit):
    (step,) = edit("--select", "sofa", "--labels", "sofa,table,wall", "--remove")[1]["steps"]
    assert step["chosen"] == 200


def test_the_name_says_the_format(scene_file, scene, tmp_path):
    out = tmp_path / "edited.glb"
    outcome = run("edit", scene_file, "--select", "table", "--extract", "-o", out)
    assert (outcome.code, outcome.err) == (0, f"wrote {out}\n")
    np.testing.assert_array_equal(load_scene(out).codes.ids, scene.codes.ids[TABLE])


def test_the_file_says_that_it_was_edited(edit):
    edited, _ = edit("--select", "table", "--remove", "--select", "sofa", "--hue", 10)
    assert edited.provenance["edited"] == "remove, hue"
    assert edited.provenance["model"] == "stand-in"


def test_the_report_in_words(scene_file, tmp_path):
    out = tmp_path / "a.ply"
    outcome = run("edit", scene_file, "--select", "table", "--remove", "-o", out)
    assert outcome.out == (
        "--select table --remove: 300 of 1000 Gaussians; 300 are gone, 700 are left\n"
    )
    assert outcome.err.startswith(f"wrote {out}")


@pytest.mark.parametrize(
    ("arguments", "code", "told", "hint"),
    [
        (["--select", "lamp", "--remove"], 1, "--select lamp chooses nothing", "--threshold"),
        (["--select", "tabel", "--remove"], 2, "tabel", "table"),
        (["--instance", "9", "--remove"], 1, "--instance 9 chooses nothing", "info"),
        (["--select", "table"], 2, "nothing to do", "--remove"),
        (["--remove"], 2, "--remove of what?", "--select"),
        (["--remove", "--select", "table"], 2, "--remove of what?", "--select"),
        (["--all", "--hue", "9", "--select", "sofa"], 2, "nothing is done with", "operation"),
        (["--select", "sofa", "--remove", "--hue", "9"], 2, "--hue 9 of what was", "choose"),
        (["--all", "--recolor", "reddish"], 2, "unknown colour", "brown"),
        (["--all", "--move", "1,2"], 2, "3 numbers", "--help"),
        (["--all", "--move", "1,2,nan"], 2, "3 numbers", "--help"),
        (["--all", "--scale", "0"], 2, "--scale", "--help"),
        (["--box", "1,1,1,0,0,0", "--remove"], 2, "no box", ""),
        (["--mask", "no.npy", "--remove"], 1, "no.npy", ""),
        (["--all", "--label", " "], 2, "no name", ""),
        (["--all", "--remove"], 5, "no Gaussians", ""),
        (["--select", "sofa", "--remove", "-O", "k=3"], 2, "--option belongs", "--strategy"),
        (["--select", "sofa", "--remove", "--strategy", "growing", "-O", "k=3"],
         2, "no option 'k'", "it has"),
        (["--group", "magic"], 2, "unknown grouping 'magic'", "clusters, super, masks"),
        (["--group", "super", "--group-option", "size=3"], 2, "super has no option", "count"),
        (["--group", "super", "--group-option", "count=0"], 2, "pieces", ""),
        (["--group", "--group-option", "min_cells=1"], 2, "2 cells or more", ""),
        (["--group", "masks"], 2, "needs the masks", "--masks FOLDER"),
        (["--group", "super", "--masks", "."], 2, "takes no masks", "--group masks"),
        (["--group", "masks", "--masks", "."], 2, "whose cameras?", "--cameras"),
        (["--all", "--hue", "9", "--masks", "."], 2, "are for --group", ""),
        (["--all", "--hue", "9", "--strategy", "magic", "--select", "sofa", "--remove"],
         2, "unknown strategy", "lexicon"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_refusals_write_nothing(scene_file, monkeypatch, arguments, code, told, hint):
    monkeypatch.chdir(scene_file.parent)
    before = sorted(scene_file.parent.iterdir())
    outcome = run("edit", scene_file, *arguments, "-o", "a.ply")
    assert outcome.code == code, outcome.err
    assert outcome.err.startswith("error: ")
    assert told in outcome.err
    assert hint in outcome.err
    assert sorted(scene_file.parent.iterdir()) == before


def test_masks_of_other_lengths_and_kinds_are_refused(scene_file, tmp_path):
    for content in (np.ones(3, bool), np.ones(1000, np.float32), np.ones((1000, 1), bool)):
        np.save(tmp_path / "mask.npy", content)
        outcome = run(
            "edit",
            scene_file,
            "--mask",
            tmp_path / "mask.npy",
            "--remove",
            "-o",
            tmp_path / "a.ply",
        )
        assert outcome.code == 1
        assert "1000 truth values" in outcome.err


def test_an_output_that_exists_is_refused_before_anything_is_read(tmp_path):
    out = tmp_path / "a.ply"
    out.write_bytes(b"precious")
    outcome = run("edit", tmp_path / "none.ply", "--select", "table", "--remove", "-o", out)
    assert outcome.code == 5
    assert out.read_bytes() == b"precious"


@pytest.fixture
def grouped(edit):
    """Run `ffsplat edit --group` with these options: the scene, and how many objects it has."""

    def call(*arguments):
        scene, facts = edit("--group", *arguments)
        assert facts["gaussians"] == {"before": 1000, "after": 1000}
        assert facts["objects"] == len(set(scene.instances.tolist()) - {-1}) > 1
        assert scene.provenance["edited"] == "group"
        return scene

    return call


def test_a_scene_may_only_be_grouped(grouped, scene):
    pytest.importorskip("sklearn")
    found = grouped("--group-option", "min_gaussians=50")
    rule = Clustering(min_gaussians=50)
    np.testing.assert_array_equal(found.instances, group_instances(scene, rule).instances)


def test_super_gaussians_become_objects(grouped, scene):
    found = grouped("super", "--group-option", "count=12", "--group-option", "rounds=2")
    np.testing.assert_array_equal(found.instances, super_gaussians(scene, 12, rounds=2).index)


def test_masks_of_photos_become_objects(grouped, scene, tmp_path):
    cameras, masks = masks_of(scene)
    write_cameras(cameras, tmp_path / "cameras.json")
    (tmp_path / "masks").mkdir()
    for name, mask in zip(cameras.names, masks, strict=True):
        Image.fromarray((mask + 1).astype(np.uint8)).save(tmp_path / "masks" / f"{name[0]}.png")
    found = grouped("masks", "--masks", tmp_path / "masks", "--cameras", tmp_path / "cameras.json",
                    "--group-option", "reach=0.3")  # fmt: skip
    expected = group_by_masks(scene, cameras, masks, reach=0.3)
    np.testing.assert_array_equal(found.instances, expected.instances)


def masks_of(scene):
    """Two photos of the room, and masks of its objects that are numbered anew in each."""
    poses = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    poses[:, 0, 3] = -0.2, 0.4
    intrinsics = np.tile(np.float32([[40, 0, 32], [0, 40, 24], [0, 0, 1]]), (2, 1, 1))
    cameras = Cameras(poses, intrinsics, np.int32([[64, 48]] * 2), ("a.jpg", "b.jpg"))
    masks = render(scene, cameras, "instance")
    masks[1][masks[1] >= 0] = (masks[1][masks[1] >= 0] + 5) % 7
    return cameras, list(masks)
