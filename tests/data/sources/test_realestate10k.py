"""RealEstate10K: the toy world in its layout."""

from pathlib import Path

import numpy as np
import pytest
import toyworld as toy

from data.sources import realestate10k
from ffsplat.errors import FFSplatError

FRACTIONS = (61 / 80, 58 / 60, 38.2 / 80, 31.7 / 60)


def write(text: Path, frames: Path) -> None:
    rows = ["https://www.youtube.com/watch?v=abc"]
    for index, view in enumerate(toy.views()):
        time = 50_000_000 + 33_000 * index
        toy.save_image(frames / f"{time}.png", view.image)
        camera_from_world = np.linalg.inv(view.pose)[:3].ravel()
        values = (*FRACTIONS, 0.0, 0.0, *camera_from_world)
        rows.append(" ".join([str(time), *(f"{value:.9f}" for value in values)]))
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("frames", ["cameras/test/0abc", "frames/test/0abc"])
def test_toy_world_comes_back(tmp_path, frames):
    text = tmp_path / "cameras/test/0abc.txt"
    write(text, tmp_path / frames)
    assert realestate10k.find(tmp_path) == [text]
    scene = realestate10k.read(text)
    assert (scene.name, scene.metric) == ("0abc", False)
    assert scene.frames[1].timestamp == pytest.approx(50.033)
    np.testing.assert_allclose(scene.frames[0].intrinsics, toy.INTRINSICS, atol=1e-6)
    toy.assert_exact(scene)


def test_lines_without_a_picture_are_counted(tmp_path):
    text = tmp_path / "a.txt"
    write(text, tmp_path / "a")
    (tmp_path / "a/50000000.png").unlink()
    assert realestate10k.read(text).notes == ("1 lines have no picture",)


@pytest.mark.parametrize("words", ["1 2", "x " * 18, "0 " + "1 " * 17, "nan " + "1 " * 17])
def test_damaged_lines_are_refused(tmp_path, words):
    text = tmp_path / "a.txt"
    write(text, tmp_path / "a")
    text.write_text(f"https://example.org\n50000000 {words}\n")
    with pytest.raises(FFSplatError):
        realestate10k.read(text)
