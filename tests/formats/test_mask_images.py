import numpy as np
import pytest
from PIL import Image

from ffsplat.errors import SceneFileError, UsageError
from ffsplat.formats.mask_images import read_masks
from ffsplat.types import Cameras


def cameras(*names):
    count = len(names)
    intrinsics = np.float32([[100, 0, 40], [0, 100, 30], [0, 0, 1]])
    return Cameras(
        np.tile(np.eye(4, dtype=np.float32), (count, 1, 1)),
        np.tile(intrinsics, (count, 1, 1)),
        np.int32([[80, 60]] * count),
        names,
    )


def test_numbers_are_read_at_the_size_of_the_images(tmp_path):
    large, small = np.zeros((60, 80), np.uint16), np.zeros((30, 40), np.uint8)
    large[10:20], small[5:] = 1000, 3
    Image.fromarray(large).save(tmp_path / "a.png")
    Image.fromarray(small).save(tmp_path / "c.tif")
    (tmp_path / "notes.txt").write_text("nothing")
    seen, masks = read_masks(tmp_path, cameras("in/a.jpg", "b.jpg", "c.jpg"))
    assert seen.names == ("in/a.jpg", "c.jpg")
    np.testing.assert_array_equal(masks[0], large.astype(int) - 1)
    np.testing.assert_array_equal(masks[1], small.astype(int) - 1)
    assert seen.sizes.tolist() == [[80, 60], [40, 30]]
    np.testing.assert_allclose(seen.intrinsics[1, :2], [[50, 0, 20], [0, 50, 15]])


def test_images_of_other_names_shapes_and_kinds_are_refused(tmp_path):
    with pytest.raises(SceneFileError, match="not a folder"):
        read_masks(tmp_path / "none", cameras("a.jpg"))
    Image.fromarray(np.zeros((60, 60), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="has the name of a photo"):
        read_masks(tmp_path, cameras("b.jpg"))
    with pytest.raises(UsageError, match="60x60 pixels, its photo 80x60"):
        read_masks(tmp_path, cameras("a.jpg"))
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(SceneFileError, match="one channel"):
        read_masks(tmp_path, cameras("a.jpg"))
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(SceneFileError, match=r"a\.png"):
        read_masks(tmp_path, cameras("a.jpg"))
