"""Real photos: the truth of a view fits its pixels, in a painted box and in shared photo sets."""

import itertools
import json

import numpy as np
import pytest
import torch
from boxpool import paint
from boxroom import HALF, cameras, depth_and_points
from PIL import Image

from ffsplat.config import ModelConfig
from ffsplat.errors import SceneFileError, UsageError
from ffsplat.geometry import invert_rigid, project, transform_points, unproject
from ffsplat.model import FFSplat
from train import metrics
from train.evaluation import photos
from train.evaluation.tally import Tally, mean

TINY = ModelConfig(
    width=24, heads=2, view_blocks=1, cross_blocks=2, match_block=2, decoder=(16, 12, 8)
)
WIDTH, HEIGHT, FOCAL = 160, 100, 120.0


def write_set(folder, depth_step: int = 1, width: int = WIDTH):
    """A set of three photos of the box; depth is kept at every `depth_step`th pixel."""
    poses = cameras(3)
    _, intrinsics, points = depth_and_points(poses, FOCAL, HEIGHT, WIDTH)
    coarse, _, _ = depth_and_points(
        poses, FOCAL / depth_step, HEIGHT // depth_step, WIDTH // depth_step
    )
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    offset = torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # its pixel centres are integers
    frames = []
    for view in range(3):
        image = 255 * paint(points[0, view], 0).reshape(HEIGHT, WIDTH, 3)
        Image.fromarray(image.byte().numpy()).save(folder / f"images/{view}.png")
        metres = (coarse[0, view] * 1000).round().numpy().astype(np.uint16)
        metres[:2] = 0
        Image.fromarray(metres).save(folder / f"depth/{view}.png")
        frames.append(
            {
                "image": f"images/{view}.png", "depth": f"depth/{view}.png",
                "width": width, "height": HEIGHT,
                "K": (intrinsics[0, view] - offset).tolist(),
                "cam_to_world": poses[0, view].tolist(),
            }
        )  # fmt: skip
    truth = {"depth_scale": 0.001, "frames": frames}
    (folder / "cameras.json").write_text(json.dumps(truth))
    pairs = [[0, 1, 0.9, 10.0, 0.2], [0, 2, 0.1, 5.0, 0.2], [1, 2, 0.8, 12.0, 0.3]]
    (folder / "pairs.json").write_text(json.dumps({"pairs": pairs}))
    return poses


def disagreement(pair: photos.PhotoPair) -> float:
    """Median relative difference of the first depth, moved to the second view, from its own."""
    depth, intrinsics = pair.depth, pair.intrinsics
    points = unproject(depth, intrinsics)[:, 0].flatten(1, 2)
    local = transform_points(invert_rigid(pair.second_in_first), points)
    pixels = project(local, intrinsics[:, 1])[0].floor().long()
    height, width = depth.shape[-2:]
    inside = (pixels >= 0).all(-1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    own = depth[0, 1][pixels[inside, 1], pixels[inside, 0]]
    moved, start = local[0, inside, 2], points[0, inside, 2]
    both = (own > 0) & (start > 0) & (moved > 0)
    return ((moved - own).abs() / own)[both].median().item()


@pytest.mark.parametrize("depth_step", [1, 2])
def test_the_truth_of_a_view_is_that_of_the_box(tmp_path, depth_step):
    poses = write_set(tmp_path / "box", depth_step)
    pairs = list(photos.read_pairs(tmp_path / "box", 64, 8))
    assert len(pairs) == 2
    pair = pairs[0]
    known = pair.depth[0, 0] > 0
    assert 0.8 < known.float().mean() < 1
    # Points at the truth lie on a wall of the box, within a pixel's slope of depth.
    points = unproject(pair.depth, pair.intrinsics)[0, 0]
    off = ((points / HALF).abs().amax(-1) - 1).abs()[known]
    assert off.median() < 0.01
    torch.testing.assert_close(
        pair.second_in_first, invert_rigid(poses[:, 0]) @ poses[:, 1], atol=1e-5, rtol=0
    )
    assert disagreement(pair) < 0.02
    width = float(pair.views.valid[0].any(0).sum())
    expected = 2 * np.degrees(np.arctan(WIDTH / 2 / FOCAL))
    assert metrics.field_of_view(pair.intrinsics, width)[0, 0].item() == pytest.approx(expected)


def test_pairs_are_chosen_by_angle_and_covisibility_and_spread():
    pairs = [[0, 1, 0.3, 29.9, 1], [0, 2, 0.29, 5, 1], [0, 3, 0.9, 30.0, 1]]
    assert photos.choose_pairs(pairs) == [(0, 1)]
    many = [[0, j, 1.0, 1.0, 1.0] for j in range(1, 101)]
    chosen = photos.choose_pairs(many)
    assert len(chosen) == len(set(chosen)) == 30
    assert (chosen[0], chosen[-1]) == ((0, 1), (0, 100))
    assert photos.choose_pairs([]) == []


def test_a_wrong_size_is_refused(tmp_path):
    write_set(tmp_path / "box", width=WIDTH + 1)
    with pytest.raises(SceneFileError, match="size"):
        list(photos.read_pairs(tmp_path / "box", 64, 8))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("cameras.json", lambda text: text[:-1]),
        ("cameras.json", lambda text: text.replace("depth_scale", "scale")),
        ("cameras.json", lambda text: text.replace('"K"', '"k"')),
        ("cameras.json", lambda text: text.replace('"K": [[', '"K": [[1, 2], [')),
        ("pairs.json", lambda text: text.replace("[1, 2,", "[1, 22,")),
        ("pairs.json", lambda text: "[]"),
        ("pairs.json", lambda text: text.replace("0.9,", '"0.9",')),
    ],
)
def test_broken_truth_is_refused(tmp_path, file, change):
    write_set(tmp_path / "box")
    path = tmp_path / "box" / file
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    with pytest.raises(SceneFileError, match="layout"):
        photos.read_frames(tmp_path / "box")


def test_folders_without_truth_are_left_out(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError):
        photos.photo_sets(tmp_path)
    write_set(tmp_path / "box")
    assert [one.name for one in photos.photo_sets(tmp_path)] == ["box"]


def test_the_table_has_a_line_a_set_and_json_the_same(tmp_path):
    write_set(tmp_path / "box")
    torch.manual_seed(0)
    sets = photos.measure_photos(FFSplat(TINY), tmp_path, 32)
    lines = photos.markdown(sets).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| box (2) | ")
    assert {line.count("|") for line in lines} == {7}
    box = photos.as_json(sets)["sets"]["box"]
    assert box["pairs"] == 2
    keys = {"abs_rel", "delta1", "rotation_deg", "translation_deg", "fov_deg"}
    assert keys | {"pairs", "baselines"} == set(box)
    assert set(box["baselines"]) == {
        "constant depth", "regressed cameras", "identity", "mean of the range",
    }  # fmt: skip
    depth = f"{box['abs_rel']:.3f} / {box['baselines']['constant depth']['abs_rel']:.3f}"
    assert lines[2].split(" | ")[1] == depth


def test_identity_and_constant_by_hand(tmp_path):
    poses = write_set(tmp_path / "box")
    torch.manual_seed(0)
    network = FFSplat(TINY).eval()
    pair = next(photos.read_pairs(tmp_path / "box", 32, 8))
    tally = Tally()
    with torch.inference_mode():
        photos.add_pair(tally, network, pair)
    angle = metrics.rotation_error(poses[:, 0], poses[:, 1]).item()
    assert mean("rotation_deg")(tally, "identity") == pytest.approx(angle, rel=1e-4)
    depth = pair.depth[pair.depth > 0].numpy()
    middle = np.sort(depth)[(len(depth) - 1) // 2]
    expected = np.mean(np.abs(middle - depth) / depth)
    assert mean("abs_rel")(tally, "constant depth") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("name", "bound"), [("hololens_office", 0.02), ("apc_shelf", 0.03)])
def test_truth_of_real_photos_agrees_between_views(shared_data, name, bound):
    pairs = itertools.islice(photos.read_pairs(shared_data / name, 128, 8), 4)
    assert max(disagreement(pair) for pair in pairs) < bound
