import json

import cv2
import numpy as np
import pytest

from ffsplat.errors import OutputError
from ffsplat.io.depth import write_depth

DEPTH = np.array([[[1.2344, 0, np.nan], [np.inf, -2, 60]], [[0.0006, 5, 5], [5, 5, 5]]], np.float32)
NAMES = ("a/x.jpg", "b/x.jpg")


def test_png_folder_in_millimetres(tmp_path):
    write_depth(DEPTH, NAMES, tmp_path / "depth", metric=True)
    facts = json.loads((tmp_path / "depth" / "depth.json").read_text())
    assert facts["units_per_step"] == 0.001
    assert facts["unit"] == "metre"
    assert facts["views"] == [
        {"name": name, "file": file, "original_from_depth": np.eye(3).tolist()}
        for name, file in (("a/x.jpg", "0000.png"), ("b/x.jpg", "0001.png"))
    ]
    first = cv2.imread(str(tmp_path / "depth" / "0000.png"), cv2.IMREAD_UNCHANGED)
    assert first is not None
    assert first.dtype == np.uint16
    assert first.tolist() == [[1234, 0, 0], [0, 0, 60000]]


@pytest.mark.parametrize(
    ("largest", "step"), [(65.5, 1e-3), (65.6, 1e-2), (6.5, 1e-4), (0.1, 1e-5), (0, 1e-3)]
)
def test_step_is_the_power_of_ten_that_fits(tmp_path, largest, step):
    write_depth(np.full((1, 1, 1), largest, np.float32), ("a",), tmp_path / "d")
    facts = json.loads((tmp_path / "d" / "depth.json").read_text())
    assert facts["units_per_step"] == pytest.approx(step)
    steps = cv2.imread(str(tmp_path / "d" / "0000.png"), cv2.IMREAD_UNCHANGED)
    assert steps is not None
    assert steps[0, 0] * facts["units_per_step"] == pytest.approx(largest, abs=step)


def test_npz(tmp_path):
    write_depth(DEPTH, NAMES, tmp_path / "d.npz")
    with np.load(tmp_path / "d.npz", allow_pickle=False) as content:
        assert content["depth"].dtype == np.float32
        assert content["depth"][0].tolist() == [[np.float32(1.2344), 0, 0], [0, 0, 60]]
        assert tuple(content["names"]) == NAMES


@pytest.mark.parametrize("name", ["d", "d.NPZ"])
def test_the_way_back_to_the_photos_is_told(tmp_path, name):
    matrices = np.stack([np.diag([20.0, 22.5, 1.0]), np.diag([7.0, 8.0, 1.0])])
    write_depth(DEPTH, NAMES, tmp_path / name, original_from_view=matrices)
    if name == "d":
        views = json.loads((tmp_path / "d" / "depth.json").read_text())["views"]
        told = [view["original_from_depth"] for view in views]
    else:
        with np.load(tmp_path / name, allow_pickle=False) as content:
            told = content["original_from_depth"]
    np.testing.assert_array_equal(told, matrices)


def test_the_name_of_an_image_is_no_folder(tmp_path):
    with pytest.raises(OutputError, match=r"depth\.png is not a folder"):
        write_depth(DEPTH, NAMES, tmp_path / "depth.png")
    write_depth(DEPTH, NAMES, tmp_path / "depth.v2")
    assert [path.name for path in tmp_path.iterdir()] == ["depth.v2"]


def test_existing_outputs_are_kept(tmp_path):
    write_depth(DEPTH, NAMES, tmp_path / "d")
    with pytest.raises(OutputError, match="already exists"):
        write_depth(DEPTH[:1] * 2, NAMES[:1], tmp_path / "d")
    assert len(json.loads((tmp_path / "d" / "depth.json").read_text())["views"]) == 2
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="not a folder"):
        write_depth(DEPTH, NAMES, tmp_path / "file", overwrite=True)


def test_failure_leaves_no_folder(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ffsplat.io.depth._png", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_depth(DEPTH, NAMES, tmp_path / "d")
    assert not list(tmp_path.iterdir())
