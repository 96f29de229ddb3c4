"""Finding photos, placing them on one canvas, and the exact way back to their own pixels."""

import os
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from ffsplat.errors import ImageError, UsageError
from ffsplat.images import find_images, load_views, original_intrinsics


def save(path, size=(40, 30), color=(200, 100, 50)):
    Image.new("RGB", size, color).save(path)
    return path


def blob(width, height, x, y):
    """A bright Gaussian whose centre is known; pixel centres at half-integers."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spot = np.exp(-50 * (((u - x) / width) ** 2 + ((v - y) / height) ** 2))
    return np.repeat((255 * spot).round().astype(np.uint8)[..., None], 3, axis=2)


def centroid(pixels):
    weights = pixels.sum(-1).astype(float)
    height, width = weights.shape
    x = (weights.sum(0) * (np.arange(width) + 0.5)).sum() / weights.sum()
    y = (weights.sum(1) * (np.arange(height) + 0.5)).sum() / weights.sum()
    return np.array([x, y, 1])


def test_a_folder_is_listed_in_natural_order(tmp_path):
    for name in ("frame_10.png", "frame_2.png", "Frame_1.PNG", "frame_02.jpg"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    save(tmp_path / "._frame_3.png")
    names = [path.name for path in find_images([tmp_path])]
    assert names == ["Frame_1.PNG", "frame_02.jpg", "frame_2.png", "frame_10.png"]


def test_inputs_keep_their_order_and_patterns_and_odd_extensions_work(tmp_path):
    for folder in ("b2", "b10"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "1.png")
    odd = save(tmp_path / "z.png").rename(tmp_path / "z.dat")
    found = find_images([odd, str(tmp_path / "b*" / "*.png")])
    assert found == [odd, tmp_path / "b2" / "1.png", tmp_path / "b10" / "1.png"]
    assert find_images(str(odd)) == [odd]


def test_a_name_with_brackets_is_no_pattern(tmp_path):
    path = save(tmp_path / "a[1].png")
    assert find_images([str(path)]) == [path]


def test_ten_thousand_files_are_listed_in_order(tmp_path):
    for i in range(10_000):
        (tmp_path / f"{i}.jpg").touch()
    assert [int(path.stem) for path in find_images([tmp_path])] == list(range(10_000))


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ImageError) as caught:
        find_images([tmp_path])
    looked_for = "jpg jpeg png webp bmp tif tiff avif jp2"
    looked_for += " heic heif" if find_spec("pillow_heif") else ""
    assert str(caught.value) == f"no images found in {tmp_path}/ (looked for {looked_for})"
    (tmp_path / "sub").mkdir()
    with pytest.raises(ImageError) as caught:
        find_images([tmp_path])
    assert "*.jpg" in caught.value.hint


def test_a_folder_of_heic_photos_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("ffsplat.images.heic_readable", lambda: False)
    for i in range(3):
        (tmp_path / f"{i}.HEIC").touch()
    with pytest.raises(ImageError, match="no images found") as caught:
        find_images([tmp_path])
    assert "3 .HEIC files were seen" in caught.value.hint
    assert 'pip install "ffsplat[heic]"' in caught.value.hint
    save(tmp_path / "1.jpg")
    assert len(find_images([tmp_path])) == 4
    monkeypatch.setattr("ffsplat.images.heic_readable", lambda: True)
    (tmp_path / "1.jpg").unlink()
    assert len(find_images([tmp_path])) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("missing.jpg", "no such file"),
        ("missing/", "no such file"),
        ("*.nothing", "no images match"),
        ("x" * 5000, "path too long"),
        ("", "is no path"),
        ("a\0b", "is no path"),
    ],
)
def test_inputs_that_do_not_exist(tmp_path, monkeypatch, text, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=reason):
        find_images([text])


def test_no_input_at_all():
    with pytest.raises(ImageError, match="no images were given"):
        load_views([])


def test_photos_of_any_shape_share_a_canvas_uncropped(tmp_path):
    wide, tall = save(tmp_path / "wide.png", (200, 100)), save(tmp_path / "tall.png", (90, 300))
    loaded = load_views([wide, tall], resolution=64, patch=8)
    views = loaded.views
    assert views.pixels.shape == (2, 64, 64, 3)
    assert views.valid[0].nonzero()[0].max() == 31
    assert views.valid[0, :32].all()
    assert views.valid[1, :, :16].all()  # 90 / 300 * 64 = 19.2 pixels are two patches
    assert views.valid[1].sum() == 64 * 16
    assert np.allclose(views.pixels[views.valid], np.array([200, 100, 50]) / 255, atol=1e-6)
    assert (views.pixels[~views.valid] == 0).all()
    assert [(source.width, source.height) for source in views.sources] == [(200, 100), (90, 300)]
    assert [source.name for source in views.sources] == ["wide.png", "tall.png"]
    assert not loaded.skipped
    assert not loaded.warnings
    assert np.isnan(views.intrinsics).all()


@pytest.mark.parametrize("extension", ["png", "jpg"])
@pytest.mark.parametrize("size", [(1003, 517), (517, 1003), (1234, 60), (61, 45)])
def test_the_map_to_original_pixels_is_exact(tmp_path, extension, size):
    width, height = size
    x, y = width * 0.7, height * 0.4
    path = tmp_path / f"a.{extension}"
    spot = blob(width, height, x, y)
    Image.fromarray(spot).save(path, **({"quality": 98} if extension == "jpg" else {}))
    views = load_views([path], resolution=64, patch=16).views
    mapped = views.sources[0].original_from_view @ centroid(views.pixels[0])
    view_pixel = max(views.sources[0].original_from_view[[0, 1], [0, 1]])
    assert np.abs(mapped - centroid(spot)).max() < 0.02 * view_pixel


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (20000, 2), (64, 64)])
def test_extreme_shapes_run(tmp_path, size):
    views = load_views([save(tmp_path / "a.png", size)], resolution=64, patch=8).views
    assert min(views.pixels.shape[1:3]) >= 8
    assert max(views.pixels.shape[1:3]) == 64
    assert np.isfinite(views.pixels).all()
    corner = [views.pixels.shape[2], views.pixels.shape[1], 1]
    assert np.allclose(views.sources[0].original_from_view @ corner, [*size, 1])


def test_downscaling_averages(tmp_path):
    checker = np.indices((512, 512)).sum(0) % 2 * 255
    Image.fromarray(checker.astype(np.uint8)).save(tmp_path / "a.png")
    pixels = load_views([tmp_path / "a.png"], resolution=64).views.pixels
    assert np.abs(pixels - 0.5).max() < 0.02


def test_images_in_memory(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    inputs = [
        photo,
        photo / 255,
        (photo / 255).astype(np.float32),
        Image.fromarray(photo),
        photo.astype(np.uint16)[..., 0] * 257,
        photo[..., :1],
        photo[..., 0],
    ]
    views = load_views(inputs, resolution=32, patch=8).views
    for pixels in views.pixels[:4]:
        assert np.array_equal(pixels, (photo / 255).astype(np.float32))
    for pixels in views.pixels[4:]:
        assert np.array_equal(pixels, np.repeat(views.pixels[0, ..., :1], 3, -1))
    assert [source.name for source in views.sources][:2] == ["image 0", "image 1"]


def test_an_image_of_the_caller_is_left_as_it_is(tmp_path):
    Image.fromarray(blob(801, 600, 400, 300)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        views = load_views([image], resolution=32).views
        assert image.size == (801, 600)
    assert views.sources[0].width == 801


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 8, 9), np.uint8), r"shape \(3, 8, 9\)"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.full((8, 8, 3), 255.0), "0 to 1"),
        (np.full((8, 8), np.nan), "0 to 1"),
    ],
)
def test_arrays_that_are_no_photos(array, reason):
    with pytest.raises(ImageError, match=reason):
        load_views([array], on_error="fail")


def test_bad_files_are_skipped_by_name_or_refused(tmp_path):
    good, bad = save(tmp_path / "good.png"), tmp_path / "bad.jpg"
    bad.write_bytes(b"not a photo")
    loaded = load_views([bad, good])
    assert len(loaded.views) == 1
    assert loaded.views.sources[0].name == "good.png"
    assert [(one.name, one.reason) for one in loaded.skipped] == [
        ("bad.jpg", "not an image in a known format")
    ]
    assert not loaded.warnings
    with pytest.raises(ImageError, match=r"cannot read bad\.jpg: not an image"):
        load_views([good, bad], on_error="fail")
    with pytest.raises(ImageError, match=r"no image could be read: bad.jpg \(not an image"):
        load_views([bad])


def test_the_list_of_unreadable_photos_is_short(tmp_path):
    for i in range(9):
        (tmp_path / f"{i}.jpg").write_bytes(b"not a photo")
    with pytest.raises(ImageError, match=r"4\.jpg \(.*\) and 4 more$"):
        load_views([tmp_path])


def test_max_views_chooses_evenly_and_says_so(tmp_path):
    for i in range(11):
        save(tmp_path / f"{i}.png", (16, 16), (i, 0, 0))
    loaded = load_views([tmp_path], resolution=16, max_views=3)
    assert [source.name for source in loaded.views.sources] == ["0.png", "5.png", "10.png"]
    assert loaded.warnings == ("used 3 of 11 images, evenly spaced",)
    assert not load_views([tmp_path], resolution=16, max_views=11).warnings


def test_order_is_that_of_the_inputs(tmp_path):
    sizes = [(4000, 3000) if i % 5 == 0 else (16, 12) for i in range(20)]  # some decode for longer
    for i, size in enumerate(sizes):
        save(tmp_path / f"{i}.bmp" if i % 5 else tmp_path / f"{i}.jpg", size, (10 * i, 0, 0))
    views = load_views([tmp_path], resolution=16).views
    assert np.allclose(views.pixels[:, 4, 4, 0] * 255, 10 * np.arange(20), atol=1.01)


def test_repeated_files_are_reported(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    save(tmp_path / "c.png", color=(1, 2, 3))
    loaded = load_views([tmp_path])
    assert len(loaded.views) == 3
    assert loaded.warnings == ("files with the same content: b.png (as a.png)",)
    assert len(load_views([tmp_path / "a.png", tmp_path / "a.png"]).warnings) == 1


def test_names_are_told_apart_and_printable(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "a.png")
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n\x1b[31m.png")
    emoji = save(tmp_path / "😀.png")
    save(tmp_path / "x.png").rename(strange)
    views = load_views([tmp_path / "one", tmp_path / "two", strange, emoji]).views
    names = [source.name for source in views.sources]
    assert names[0].endswith("one/a.png")
    assert names[1].endswith("two/a.png")
    assert names[2] == "\ufffd\ufffd\ufffd[31m.png"
    assert names[3] == "😀.png"


@pytest.mark.parametrize(
    "options", [{"resolution": 4}, {"patch": 0}, {"resolution": 0}, {"max_views": 0}]
)
def test_impossible_options(tmp_path, options):
    with pytest.raises(UsageError):
        load_views([save(tmp_path / "a.png")], **options)


def test_original_intrinsics_project_to_the_original_pixels(tmp_path):
    paths = [save(tmp_path / "a.png", (1003, 517)), save(tmp_path / "b.png", (100, 333))]
    views = load_views(paths, resolution=64).views
    view_intrinsics = np.array([[[50, 0, 31], [0, 48, 16], [0, 0, 1]]] * 2, np.float32)
    point = np.array([0.2, -0.1, 1.5])
    for i, original in enumerate(original_intrinsics(views, view_intrinsics)):
        in_view = view_intrinsics[i] @ point
        across, down = (views.valid[i].any(axis).sum() for axis in (0, 1))
        scale = np.array([views.sources[i].width / across, views.sources[i].height / down])
        in_original = original @ point
        expected = in_view[:2] / in_view[2] * scale
        assert np.allclose(in_original[:2] / in_original[2], expected, atol=1e-3)


def test_real_photos(shared_data):
    loaded = load_views([shared_data / "opensfm_lund" / "images"], resolution=128, patch=8)
    assert loaded.views.pixels.shape == (15, 96, 128, 3)
    assert loaded.views.valid.all()
    assert not loaded.skipped
    stored = np.asarray(Image.open(shared_data / "opensfm_lund" / "images" / "08.jpg"))
    stem = [source.name for source in loaded.views.sources].index("08.jpg")
    boxes = stored.reshape(96, 5, 128, 5, 3).mean((1, 3)) / 255  # area average, independently
    assert np.abs(loaded.views.pixels[stem] - boxes).mean() < 0.02
