"""Pools of rooms on disk, photo tiles, and the command `python -m data`."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open

from data.__main__ import main
from data.rooms import SPLITS, Atlas, load_atlas, load_chunk, load_pool, render_rooms, write_pool
from data.rooms import pool as pool_module
from data.rooms.materials import PHOTO, PLAIN
from data.rooms.textures import albedo


def _tiles(folder, side=4):
    """An atlas of two tiles: one red with a green first pixel, one blue."""
    pixels = np.zeros((side, 2 * side, 3), dtype=np.uint8)
    pixels[:, :side] = [255, 0, 0]
    pixels[0, 0] = [0, 255, 0]
    pixels[:, side:] = [0, 0, 255]
    Image.fromarray(pixels).save(folder / "wood.png")
    row = {"file": "wood.png", "tiles": 2, "cols": 2, "tile": side}
    (folder / "index.json").write_text(json.dumps({"Wood": row}))
    return row


def _colour(atlas: Atlas | None, tile: int, x: float, y: float, footprint: float, kind=PHOTO):
    """Colour on an upward face at (x, y), one tile a metre."""
    material = torch.tensor([kind, 1, 1, 1, 0, 0, 0, 1, 0, 0, tile, 0, 0, 0, 1.0])[:, None]
    up, point = torch.tensor([[0.0], [0], [1]]), torch.tensor([[x], [y], [0.0]])
    return albedo(material, point, up, -up, torch.tensor([footprint]), atlas)[:, 0].tolist()


def test_photo_tiles_are_looked_up_at_texel_centres(tmp_path):
    _tiles(tmp_path)
    atlas = load_atlas(tmp_path)
    assert atlas.categories == {"Wood": range(2)}
    assert [level.shape[1] for level in atlas.levels] == [4, 2, 1]
    assert _colour(atlas, 0, 0.125, -0.125, 0.01) == pytest.approx([0, 1, 0])
    assert _colour(atlas, 0, 1.125, -3.125, 0.01) == pytest.approx([0, 1, 0]), "tiles repeat"
    assert _colour(atlas, 0, 0.25, -0.125, 0.01) == pytest.approx([0.5, 0.5, 0]), "bilinear"
    assert _colour(atlas, 0, 0.3, -0.3, 1.0) == pytest.approx([15 / 16, 1 / 16, 0]), "far: mean"
    assert _colour(atlas, 1, 0.3, -0.3, 0.01) == pytest.approx([0, 0, 1])


def test_a_plain_material_has_its_colour_everywhere():
    assert _colour(None, -1, 0.3, 0.7, 0.01, PLAIN) == [1, 1, 1]


@pytest.mark.parametrize("change", [{"tile": 4096}, {"tiles": 10**9}, {"tiles": 0}])
def test_an_absurd_atlas_is_refused(tmp_path, change):
    row = _tiles(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"Wood": row | change}))
    with pytest.raises(ValueError, match="tiles of"):
        load_atlas(tmp_path)


def test_photo_textures_change_colours_only(tmp_path):
    _tiles(tmp_path)
    seed = SPLITS["preview"][3]
    plain, photo = (
        render_rooms([seed], 2, 16, 16, atlas) for atlas in (None, load_atlas(tmp_path))
    )
    assert torch.equal(plain.depth, photo.depth)
    assert torch.equal(plain.part, photo.part)
    assert not torch.equal(plain.image, photo.image)


def test_a_pool_holds_what_was_rendered(tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "CHUNK", 2)
    paths = list(write_pool(tmp_path, "preview", 5, 3, 2, (16, 24)))
    assert load_pool(tmp_path) == paths
    assert len(paths) == 2
    first, last = load_chunk(paths[0]), load_chunk(paths[1])
    seeds = SPLITS["preview"][5:8]
    assert first["seed"].tolist() + last["seed"].tolist() == list(seeds)
    batch = render_rooms([seeds[2]], 2, 16, 24)
    assert last["image"].dtype == np.uint8
    assert last["image"].shape == (1, 2, 16, 24, 3)
    assert np.abs(last["image"] / 255 - batch.image.numpy()).max() < 0.5 / 255 + 1e-6
    assert last["depth"].dtype == np.float16
    np.testing.assert_allclose(last["depth"], batch.depth, rtol=1e-3)
    for name in ("whole", "part", "instance", "intrinsics", "world_from_camera"):
        assert np.array_equal(last[name], getattr(batch, name).numpy()), name
        assert f"{name} " in pool_module.FORMAT
    with safe_open(paths[0], framework="numpy") as file:
        assert file.metadata()["split"] == "preview"


def test_an_interrupted_pool_goes_on_and_hides_unfinished_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "CHUNK", 1)
    list(write_pool(tmp_path, "preview", 0, 1, 2, (8, 8)))
    before = load_pool(tmp_path)[0].stat().st_mtime_ns
    (tmp_path / ".chunk-half.tmp").write_bytes(b"half")

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(pool_module, "save_file", fail)
        with pytest.raises(OSError, match="disk full"):
            list(write_pool(tmp_path, "preview", 0, 2, 2, (8, 8)))
    assert len(load_pool(tmp_path)) == 1
    assert sorted(p.name for p in tmp_path.glob(".chunk*")) == [".chunk-half.tmp"]
    list(write_pool(tmp_path, "preview", 0, 2, 2, (8, 8)))
    assert len(load_pool(tmp_path)) == 2
    assert load_pool(tmp_path)[0].stat().st_mtime_ns == before


def test_training_pools_cannot_reach_held_out_seeds(tmp_path):
    start = str(SPLITS["heldout_v1"].start - 1)
    arguments = ["pool", "--out", str(tmp_path), "--scenes", "2", "--seed-start", start]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "do not fit in train" in result.output
    assert load_pool(tmp_path) == []


def test_commands_write_what_they_say(tmp_path):
    runner = CliRunner()
    arguments = ["--scenes", "1", "--size", "16", "--views", "2"]
    made = runner.invoke(main, ["pool", "--out", str(tmp_path / "pool"), *arguments])
    assert made.exit_code == 0, made.output
    assert len(load_pool(tmp_path / "pool")) == 1
    sheet = runner.invoke(main, ["sheet", "--out", str(tmp_path / "sheet.png"), *arguments])
    assert sheet.exit_code == 0, sheet.output
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (32, 96)
    check = runner.invoke(main, ["check", "--scenes", "1", "--size", "32"])
    assert check.exit_code == 0, check.output
    assert "depth_error" in check.output
    shown = runner.invoke(main, ["examples", "--out", str(tmp_path / "examples"), "--size", "24"])
    assert shown.exit_code == 0, shown.output
    truth = json.loads((tmp_path / "examples" / "truth.json").read_text())
    assert len(truth["photos"]) == 6
    with Image.open(tmp_path / "examples" / truth["photos"][5]["name"]) as image:
        assert image.size == (truth["width"], truth["height"]) == (32, 24)
