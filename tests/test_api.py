from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import ffsplat
from ffsplat import api, hub
from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.device import choose_dtype
from ffsplat.errors import ImageError, MemoryLimit, UsageError, WeightsMissing
from ffsplat.merge import gaussians_from_prediction
from ffsplat.model import FFSplat
from ffsplat.render import render
from ffsplat.types import Scene

CONFIG = ModelConfig(
    name="tiny", resolution=48, width=16, heads=1, view_blocks=1, cross_blocks=2, match_block=2,
    registers=1, decoder=(8, 8, 8), match_width=8, code_width=8, license="CC0-1.0",
)  # fmt: skip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return FFSplat(CONFIG)


@pytest.fixture(scope="module")
def model(network):
    return api.Model(network, lexicon_codebook(), dtype="float32", provenance={"model": "tiny"})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three photos of different sizes, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for i, size in enumerate(((60, 80), (80, 60), (40, 80))):
        coarse = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(
            folder / f"{i}.png"
        )
    (folder / "broken.jpg").write_text("no photo")
    return folder


def is_finite(scene: Scene) -> bool:
    gaussians = scene.gaussians
    arrays = (gaussians.means, gaussians.scales, gaussians.quaternions_wxyz, gaussians.opacities,
              gaussians.sh, scene.codes.weights, scene.codes.norms)  # fmt: skip
    cameras = scene.cameras.world_from_camera, scene.cameras.intrinsics
    return all(np.isfinite(array).all() for array in (*arrays, *cameras))


def test_photos_become_a_scene_that_is_saved_asked_and_read_again(model, photos, tmp_path):
    result = model.infer_with_report(photos)
    scene, report = result.scene, result.report
    assert 0 < len(scene) <= 48 * 40 * 2 + 48 * 24
    assert is_finite(scene)
    assert scene.cameras.names == ("0.png", "1.png", "2.png")
    assert scene.cameras.sizes.tolist() == [[80, 60], [60, 80], [80, 40]]
    assert scene.metric
    assert scene.provenance == {"model": "tiny"}
    assert [skipped.name for skipped in report.skipped] == ["broken.jpg"]
    assert list(report.seconds) == ["images", "network", "cameras", "scene"]
    assert all(value >= 0 for value in report.seconds.values())
    assert report.prediction.depth.shape == (1, *report.views.valid.shape)

    scene.save(tmp_path / "scene.ply")
    again = Scene.load(tmp_path / "scene.ply")
    np.testing.assert_array_equal(again.gaussians.means, scene.gaussians.means)
    np.testing.assert_array_equal(again.codes.ids, scene.codes.ids)
    name = scene.codebook.names[scene.codes.ids[0, 0]]
    hits = again.query(name, threshold=0.0).hits
    np.testing.assert_array_equal(hits[0].rows, scene.query(name, threshold=0.0).hits[0].rows)

    small = replace(scene.cameras[[0]], sizes=np.array([[16, 12]], np.int32))
    depth = scene.render(small, "depth", backend="reference")
    assert depth.shape == (1, 12, 16)
    np.testing.assert_array_equal(depth, render(scene, small, "depth", backend="reference"))


def test_inputs_may_be_a_path_an_image_or_arrays(model, photos):
    by_path = model.infer(photos / "0.png")
    by_text = model.infer(str(photos / "0.png"))
    with Image.open(photos / "0.png") as image:
        by_image = model.infer(image)
        by_array = model.infer([np.asarray(image)])
    for other in (by_text, by_image, by_array):
        np.testing.assert_array_equal(by_path.gaussians.means, other.gaussians.means)


def test_the_same_call_writes_the_same_bytes(network, photos, tmp_path):
    for dtype in ("float32", "bfloat16"):
        model = api.Model(network, lexicon_codebook(), device="cpu", dtype=dtype)
        contents = []
        for folder in (tmp_path / f"{dtype}-a", tmp_path / f"{dtype}-b"):
            folder.mkdir()
            model.infer(photos, voxel=0.05).save(folder / "scene.ply")
            contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
        assert len(contents[0]) == 2
        assert contents[0] == contents[1]


def test_bfloat16_is_near_float32(network, photos):
    full, half = (
        api.Model(network, lexicon_codebook(), dtype=dtype).infer_with_report(photos, refine=False)
        for dtype in ("float32", "bfloat16")
    )
    torch.testing.assert_close(
        full.report.prediction.depth, half.report.prediction.depth, rtol=0.05, atol=0.0
    )
    assert half.report.prediction.depth.dtype == torch.float32


def test_the_scene_is_that_of_the_prediction(model, photos):
    result = model.infer_with_report(
        photos, prune_edges=False, consistent=False, min_confidence=0.0
    )
    world = gaussians_from_prediction(result.report.prediction)
    valid = result.report.views.valid.ravel()
    np.testing.assert_array_equal(result.scene.gaussians.means, world.means[0].numpy()[valid])


def test_options_reach_the_stages(model, photos):
    scene = model.infer(photos, max_views=1, resolution=16, topk=2, max_gaussians=50)
    assert scene.cameras.names == ("0.png",)
    assert len(scene) == 50
    assert scene.codes.ids.shape == (50, 2)
    assert len(model.infer(photos, voxel=0.5)) < len(model.infer(photos))
    with pytest.raises(ImageError, match=r"broken.jpg"):
        model.infer(photos, on_error="fail")


def test_more_photos_than_one_pass_holds_are_all_used(model):
    images = [noise(i) for i in range(30)]
    result = model.infer_with_report(images, resolution=16)
    scene, report = result.scene, result.report
    assert len(scene.cameras) == len(report.views) == 30
    assert len(report.passes) == 30  # each photo has a window of its own
    assert report.prediction is None
    assert report.depth.shape == report.views.valid.shape
    assert (report.depth > 0).all()
    assert is_finite(scene)
    assert list(report.seconds) == ["images", "network", "cameras", "scene"]
    thinned = model.infer_with_report(images, resolution=16, max_views=20)
    assert "used 20 of 30 images, evenly spaced" in thinned.report.warnings
    assert len(thinned.report.passes) == 1


def test_the_views_of_a_pass_can_be_chosen(model, photos):
    result = model.infer_with_report(photos, chunk_views=2)
    assert len(result.report.passes) == 3
    assert result.scene.cameras.names == ("0.png", "1.png", "2.png")
    whole = model.infer_with_report(photos, chunk_views=3)
    np.testing.assert_array_equal(whole.scene.gaussians.means, model.infer(photos).gaussians.means)
    np.testing.assert_array_equal(
        whole.report.depth, whole.report.prediction.depth[0].float().numpy()
    )
    again = model.infer(photos, chunk_views=2)
    np.testing.assert_array_equal(again.gaussians.means, result.scene.gaussians.means)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"topk": 0}, "topk is 0"),
        ({"topk": 17}, "topk is 17"),
        ({"voxel": 0.0}, "voxel is 0.0"),
        ({"voxel": float("nan")}, "voxel is nan"),
        ({"voxel": float("inf")}, "voxel is inf"),
        ({"voxel": 1e-9}, "voxel 1e-09 is too small"),
        ({"min_confidence": float("nan")}, "min_confidence is nan"),
        ({"max_gaussians": 0}, "max_gaussians is 0"),
        ({"max_views": 0}, "max_views is 0"),
        ({"chunk_views": 1}, "chunk_views is 1"),
        ({"resolution": 4}, "resolution 4"),
    ],
)
def test_impossible_options_are_refused(model, photos, option, message):
    with pytest.raises(UsageError, match=message):
        model.infer(photos, **option)


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (32, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "images",
    [
        [noise(0)],
        [noise(0)] * 4,
        [np.zeros((32, 40, 3), np.uint8)] * 3,
        [np.full((32, 40, 3), 255, np.uint8)],
        [noise(i) for i in range(5)],
        [np.zeros((1, 1, 3), np.uint8)],
        [np.zeros((1, 500, 3), np.uint8), noise(1)],
    ],
    ids=["one", "identical", "black", "white", "noise", "1x1", "1x500"],
)
def test_degenerate_photos_give_finite_splats(model, images):
    scene = model.infer(images)
    assert len(scene) > 0
    assert is_finite(scene)
    assert (scene.gaussians.scales > 0).all()


def test_transparent_photos_are_refused(model):
    with pytest.raises(ImageError, match="transparent"):
        model.infer(np.zeros((32, 32, 4), np.uint8))


def test_photos_from_one_place_bring_a_warning(model, network, monkeypatch):
    def still(prediction, *_):
        pose = torch.eye(4).expand_as(prediction.world_from_camera)
        return replace(prediction, world_from_camera=pose)

    assert model.infer_with_report([noise(0)]).report.warnings == ()
    monkeypatch.setattr(api, "refine_cameras", still)
    warnings = model.infer_with_report([noise(0), noise(1)]).report.warnings
    assert warnings == (
        "the photos seem to be taken from one place: depth comes from single views",
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"),
    ],
)
def test_out_of_memory_says_what_to_lower(model, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(model.network, "forward", fail)
    with pytest.raises(MemoryLimit, match="out of memory at 4 views x 48 px on cpu") as caught:
        model.infer([noise(i) for i in range(4)])
    assert caught.value.hint == "try --chunk-views 2 or --resolution 24"
    assert caught.value.exit_code == 4


def test_other_errors_are_not_called_a_lack_of_memory(model, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("something else")

    monkeypatch.setattr(model.network, "forward", fail)
    with pytest.raises(RuntimeError, match="something else"):
        model.infer([noise(0)])


def test_load_by_folder_records_where_the_weights_came_from(network, photos, tmp_path):
    folder = tmp_path / "mine"
    hub.save_checkpoint(folder, network, lexicon_codebook(), "", dtype=torch.float32)
    model = ffsplat.load(str(folder), device="cpu", dtype="float32")
    scene = model.infer(photos)
    assert scene.provenance == {
        "model": "mine",
        "revision": hub.resolve(str(folder)).revision,
        "license": "CC0-1.0",
        "ffsplat": ffsplat.__version__,
    }
    expected = api.Model(network, lexicon_codebook(), dtype="float32").infer(photos)
    np.testing.assert_array_equal(scene.gaussians.means, expected.gaussians.means)
    with pytest.raises(WeightsMissing):
        ffsplat.load("org/absent", offline=True)


def test_devices_and_types(network):
    for name in ("cuda:99", "nonsense", "xpu", "meta"):
        with pytest.raises(UsageError, match=name):
            api.Model(network, lexicon_codebook(), device=name)
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    with pytest.raises(UsageError, match="float8"):
        choose_dtype("float8", torch.device("cpu"))
    model = api.Model(network.train(), lexicon_codebook(), device="cpu")
    assert not model.network.training


def test_an_opacity_for_meaning_goes_through_to_the_file(photos, tmp_path):
    torch.manual_seed(1)
    network = FFSplat(replace(CONFIG, meaning_opacity=True))
    hub.save_checkpoint(tmp_path / "double", network, lexicon_codebook(), "# Double\n")
    scene = api.load(str(tmp_path / "double"), dtype="float32").infer(photos, voxel=0.05)
    opacities = scene.gaussians.meaning_opacities
    assert opacities.shape == scene.gaussians.opacities.shape
    assert np.abs(opacities - scene.gaussians.opacities).max() > 1e-3
    scene.save(tmp_path / "scene.ply")
    back = Scene.load(tmp_path / "scene.ply")
    np.testing.assert_allclose(back.gaussians.meaning_opacities, opacities, rtol=1e-5)
    assert render(scene, scene.cameras[:1], "codes").max() >= 0


def test_the_bundled_model_has_one_opacity(photos, tmp_path):
    scene = api.load("ffsplat-tiny").infer(photos)
    assert scene.gaussians.meaning_opacities is None
    scene.save(tmp_path / "scene.ply")
    assert b"cb_opacity" not in (tmp_path / "scene.ply").read_bytes()[:4096]
