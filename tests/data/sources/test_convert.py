"""Data sets to shards: what a clip holds, what is skipped, and the command."""

import json

import numpy as np
import pytest
import toyworld as toy
from click.testing import CliRunner
from toylayouts import save_cameras, write_folder, write_scannet, write_scannet_table

from data.__main__ import main
from data.clip import KEY, UNKNOWN
from data.convert import Options, Report, clip_key, convert, make_clip, source_clips, summary
from data.rooms.labels import WHOLE_INDEX
from data.shards import ShardDataset
from data.sources import folder, scannet
from data.sources.clips import ClipRule
from data.sources.poses import nearest_rigid
from data.sources.registry import source_of
from data.sources.view import Target
from ffsplat.errors import FFSplatError

OPTIONS = Options(Target(40, 4), ClipRule(2, 0.05, 1.0))


def test_clip_holds_what_the_frames_say(tmp_path):
    write_scannet(tmp_path)
    write_scannet_table(tmp_path)
    scene = scannet.read(tmp_path)
    clip = make_clip(scene, list(scene.frames[:2]), toy.FULL, "a-b")
    assert (clip.key, clip.source, clip.metric) == ("a-b", "scannet", True)
    assert clip.images.shape == (2, 60, 80, 3)
    for view in range(2):
        truth = toy.trace(clip.world_from_camera[view], clip.intrinsics[view], toy.SIZE)
        np.testing.assert_allclose(clip.world_from_camera[view], toy.views()[view].pose, atol=1e-6)
        names = ("wall", "chair", None, "floor", "sofa", "bed")
        rows = np.array([UNKNOWN, *(WHOLE_INDEX.get(name, UNKNOWN) for name in names)])
        assert clip.whole is not None
        assert clip.instance is not None
        assert (clip.whole[view] == rows[truth.labels]).mean() > 0.98
        room = np.isin(truth.labels, [1, 4])
        assert (clip.instance[view] == np.where(room, 0, truth.labels)).mean() > 0.98


def test_maps_that_only_some_frames_have(tmp_path):
    content = write_folder(tmp_path, toy.views())
    del content["frames"][1]["depth"], content["frames"][1]["label"]
    (tmp_path / "cameras.json").write_text(json.dumps(content))
    scene = folder.read(tmp_path)
    clip = make_clip(scene, list(scene.frames[:2]), toy.FULL, "a")
    assert clip.depth is not None
    assert clip.whole is not None
    assert clip.instance is None
    assert (clip.depth[0] > 0).all()
    assert (clip.depth[1] == 0).all()
    assert (clip.whole[0] != UNKNOWN).all()
    assert (clip.whole[1] == UNKNOWN).all()
    bare = tuple(toy.replace(frame, depth=None, labels=None) for frame in scene.frames)
    clip = make_clip(toy.replace(scene, frames=bare), list(bare), toy.FULL, "a")
    assert clip.depth is None
    assert clip.whole is None


def test_pose_of_few_digits_becomes_rigid():
    pose = toy.views(1)[0].pose
    rounded = nearest_rigid(np.round(pose, 3))
    np.testing.assert_allclose(rounded[:3, :3] @ rounded[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rounded, pose, atol=2e-3)
    np.testing.assert_allclose(nearest_rigid(pose), pose, atol=1e-12)


def test_keys_are_legal_and_tell_scenes_apart():
    names = ["a/b", "a-b", "a b", "ä" * 200, "x" * 300, "train/scene0000_00"]
    keys = [clip_key("realestate10k", name, 99999) for name in names]
    assert len(set(keys)) == len(names)
    assert all(KEY.fullmatch(key) for key in keys)


@pytest.fixture
def sets(tmp_path):
    """Two good sets, one whose JSON is damaged, one whose photos are."""
    for name in "ab":
        write_folder(tmp_path / f"in/{name}", toy.views())
    write_folder(tmp_path / "in/c", toy.views())
    (tmp_path / "in/c/cameras.json").write_text("{")
    write_folder(tmp_path / "in/d", toy.views())
    for photo in (tmp_path / "in/d/images").iterdir():
        photo.write_bytes(b"no photo")
    return tmp_path / "in"


def test_bad_scenes_are_named_and_skipped(sets):
    report = Report()
    clips = list(source_clips(source_of("folder"), sets, OPTIONS, report))
    assert report.clips == len(clips) > 3
    assert report.views == 2 * len(clips)
    assert report.labelled == len(clips)
    assert report.scenes == 3, "d has poses and depth, only its photos are damaged"
    assert len({clip.key for clip in clips}) == len(clips)
    assert report.failed[0].startswith("c: ")
    assert report.failed[1].startswith("d, clip 0: ")
    text = "\n".join(summary(report))
    assert f"{len(clips)} clips" in text
    assert text.count("skipped: ") == len(report.failed)


def test_numbers_that_no_shard_takes_cost_a_clip_not_the_run(tmp_path):
    content = write_folder(tmp_path, toy.views())
    for frame in content["frames"]:
        frame["cam_to_world"][0][3] = 1e300
        del frame["depth"]
    save_cameras(tmp_path, content)
    report = Report()
    options = Options(Target(40, 4), ClipRule(2, 0.0, 1.0))
    assert list(source_clips(source_of("folder"), tmp_path, options, report)) == []
    assert report.clips == 0
    assert any("not finite" in reason for reason in report.failed)


def test_shards_hold_the_clips_and_an_interrupted_run_goes_on(sets, tmp_path):
    source = source_of("folder")
    report = convert(source, sets, tmp_path / "whole", OPTIONS)
    expected = list(source_clips(source, sets, OPTIONS, Report()))
    dataset = ShardDataset(tmp_path / "whole")
    assert len(dataset) == report.clips == len(expected)
    for number, clip in enumerate(expected):
        stored = dataset[number]
        assert stored.key == clip.key
        np.testing.assert_array_equal(stored.images, clip.images)
        np.testing.assert_array_equal(stored.whole, clip.whole)
        np.testing.assert_array_equal(stored.intrinsics, clip.intrinsics)
    (tmp_path / "whole/index.json").unlink()
    again = convert(source, sets, tmp_path / "whole", OPTIONS)
    assert (again.clips, again.views) == (report.clips, report.views)
    assert len(ShardDataset(tmp_path / "whole")) == len(expected)


def test_stored_clips_are_not_made_again(sets):
    source, report = source_of("folder"), Report()
    keys = [clip.key for clip in source_clips(source, sets, OPTIONS, Report())]
    rest = source_clips(source, sets, OPTIONS, report, {*keys[:-1]})
    assert [clip.key for clip in rest] == keys[-1:]
    assert report.clips == len(keys)


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_command_prints_terms_first_and_counts_last(sets, tmp_path):
    out = tmp_path / "out"
    cut = ("--size", 40, "--multiple", 4, "--views", 2, "--min-overlap", 0.05, "--max-overlap", 1)
    result = run("convert", "folder", sets, "--out", out, *cut)
    assert result.exit_code == 3
    rows = result.output.splitlines()
    assert rows[0].startswith("folder: ")
    assert rows[1].startswith("terms: ")
    assert "skipped: c: " in result.output
    assert ShardDataset(out)[0].images.shape == (2, 32, 40, 3)
    again = run("convert", "folder", sets, "--out", out, *cut)
    assert again.exit_code == 5
    assert "finished" in again.output
    few = run("convert", "folder", sets / "a", "--out", tmp_path / "few", *cut, "--limit", 1)
    assert few.exit_code == 0
    assert len(ShardDataset(tmp_path / "few")) == 1
    square = run("convert", "folder", sets / "a", "--out", tmp_path / "sq", *cut, "--square")
    assert square.exit_code == 0
    assert ShardDataset(tmp_path / "sq")[0].images.shape == (2, 40, 40, 3)


def test_nothing_to_convert_is_an_error_that_says_why(sets, tmp_path):
    empty = run("convert", "tum", sets, "--out", tmp_path / "x")
    assert empty.exit_code == 2
    assert "no scene of tum" in empty.output
    bad = run("convert", "folder", sets / "c", "--out", tmp_path / "y")
    assert bad.exit_code == 2
    assert "gave no clip" in bad.output
    assert "JSON" in bad.output
    assert not (tmp_path / "y/index.json").exists()
    assert run("convert", "kitti", sets, "--out", tmp_path / "z").exit_code == 2
    with pytest.raises(FFSplatError):
        convert(source_of("folder"), sets / "c", tmp_path / "w", OPTIONS)


def test_masks_without_labels_become_object_numbers(tmp_path):
    views = toy.views(2)
    content = write_folder(tmp_path, views)
    for index, frame in enumerate(content["frames"]):
        masks = np.where(views[index].labels == 2, 300, 0)
        toy.save_map(tmp_path / f"masks/{index}.png", masks)
        del frame["label"]
        frame["instance"] = f"masks/{index}.png"
    save_cameras(tmp_path, content)
    scene = folder.read(tmp_path)
    clip = make_clip(scene, list(scene.frames), toy.FULL, "a")
    assert clip.whole is None
    shown = np.stack([view.labels for view in views]) == 2
    assert shown.any()
    assert (clip.instance == np.where(shown, 300, UNKNOWN)).all()
