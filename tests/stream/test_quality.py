from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ffsplat.stream.quality import (
    BURNT,
    DARK,
    ENOUGH,
    MEMORY,
    PLAIN,
    STEP,
    FrameCheck,
    cell_means,
    greys,
    is_covered,
    sharpness,
)


def textured(seed: int = 0, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A picture of patches with sharp edges, like that of a room."""
    random = np.random.default_rng(seed)
    picture = np.full((*size, 3), 120, dtype=np.uint8)
    for _ in range(40):
        top, left = random.integers(0, size[0] - 8), random.integers(0, size[1] - 8)
        h, w = random.integers(8, 40, 2)
        picture[top : top + h, left : left + w] = random.integers(20, 236, 3)
    return picture


def blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def moved(picture: np.ndarray, length: int) -> np.ndarray:
    """Motion blur along the rows."""
    shifts = [np.roll(picture, shift, axis=1) for shift in range(length)]
    return np.mean(shifts, axis=0).astype(np.uint8)


def with_noise(picture: np.ndarray, deviation: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, deviation, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def primed() -> FrameCheck:
    """A check that has seen enough sharp frames to know what is usual."""
    check = FrameCheck()
    assert [check.judge(textured(seed)) for seed in range(MEMORY)] == [None] * MEMORY
    return check


def photos(folder: Path, longer_side: int | None = None) -> list[np.ndarray]:
    found = []
    for path in sorted((folder / "images").iterdir()):
        photo = Image.open(path).convert("RGB")
        if longer_side:
            photo.thumbnail((longer_side, longer_side))
        found.append(np.asarray(photo))
    return found


ramp = np.tile(np.linspace(60, 140, 128)[None, :, None], (96, 1, 3))
COVERED = {
    "black": np.zeros((96, 128, 3), np.uint8),
    "dark with noise": with_noise(np.zeros((96, 128, 3)), 8),
    "burnt out": np.full((96, 128, 3), 253, np.uint8),
    "plain": np.full((96, 128, 3), 128, np.uint8),
    "plain with noise": with_noise(np.full((96, 128, 3), 90.0), 8),
    "a finger": with_noise(ramp * [1.0, 0.5, 0.4], 3),
    "a strip": np.full((20, 640, 3), 128, np.uint8),
    "one pixel": np.full((1, 1, 3), 128, np.uint8),
}


@pytest.mark.parametrize("name", COVERED)
def test_a_lens_that_sees_nothing_is_covered(name):
    assert FrameCheck().judge(COVERED[name]) == "covered"
    check = primed()
    assert check.judge(COVERED[name]) == "covered"
    assert check.judge(textured(99)) is None


def test_a_dim_room_is_not_covered():
    assert FrameCheck().judge((textured() * 0.2).astype(np.uint8)) is None


def test_the_same_picture_is_repeated_whatever_its_noise_until_the_camera_moves():
    check = primed()
    assert check.judge(with_noise(textured(50), 3, seed=1)) is None
    assert check.judge(with_noise(textured(50), 3, seed=2)) == "repeated"
    assert check.judge(np.roll(textured(50), 1, axis=1)) is None


def test_slow_motion_is_no_standstill():
    picture = np.asarray(Image.fromarray(textured(1, (384, 512))).filter(ImageFilter.BoxBlur(3)))
    views = [np.roll(picture, shift, axis=1)[::4, ::4] for shift in range(13)]
    check = FrameCheck()
    verdicts = [check.judge(view) for view in views]  # a quarter of a pixel at a time
    assert verdicts.count(None) >= 3
    assert set(verdicts) == {None, "repeated"}


@pytest.mark.parametrize("radius", [2.0, 4.0])
def test_a_blurred_frame_is_told_from_sharp_ones_before_it(radius):
    check = primed()
    assert check.judge(blurred(textured(50), radius)) == "blurred"
    assert check.judge(textured(50)) is None


def test_motion_along_one_axis_is_blur():
    check = primed()
    assert check.judge(moved(textured(50), 9)) == "blurred"
    assert check.judge(np.rot90(moved(np.rot90(textured(51)), 9), -1)) == "blurred"


def test_a_camera_that_stays_soft_is_used_again():
    check = primed()
    verdicts = [check.judge(blurred(textured(100 + i), 2.0)) for i in range(MEMORY)]
    assert verdicts[0] == "blurred"
    assert verdicts[MEMORY // 2 + 1 :] == [None] * (MEMORY - MEMORY // 2 - 1)


def test_nothing_is_blurred_before_the_usual_is_known():
    check = FrameCheck()
    assert check.judge(textured()) is None
    for i in range(ENOUGH - 1):
        assert check.judge(blurred(textured(1 + i), 2.0)) is None


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_greys_are_those_of_pillow(factor):
    picture = with_noise(textured(3, (95, 128)), 20)
    expected = Image.fromarray(picture).convert("L").reduce(factor)
    found = greys(picture, factor)
    assert found.shape == (95 // factor, 128 // factor)
    whole = np.asarray(expected, np.float32)[: found.shape[0], : found.shape[1]]
    # Pillow rounds means again, after a division by a whole number's nearest reciprocal.
    np.testing.assert_allclose(found, whole, atol=0 if factor == 1 else 0.55)


def test_cells_are_means_of_what_is_whole():
    grey = np.random.default_rng(0).uniform(0, 255, (97, 131)).astype(np.float32)
    expected = grey[:96, :128].reshape(12, 8, 16, 8).mean((1, 3))
    np.testing.assert_allclose(cell_means(grey, 8), expected, rtol=1e-5)
    flat = [[grey[:5, :8].mean(), grey[:5, 8:16].mean()]]
    np.testing.assert_allclose(cell_means(grey[:5, :23], 8), flat, rtol=1e-5)


def test_covered_is_told_by_quantiles_and_by_cells_that_differ():
    random, told = np.random.default_rng(0), []
    for _ in range(300):
        cells = np.full((12, 16), random.choice([5.0, 9.0, 120.0, 250.0]), np.float32)
        some = random.random(cells.shape) < random.choice([0.002, 0.02, 0.2])
        cells[some] += random.uniform(-20, 20, some.sum()).astype(np.float32)
        dark = np.percentile(cells, 98) < DARK
        burnt = np.percentile(cells, 2) > BURNT
        shares = [
            (np.abs(one[1:-1] - (one[:-2] + one[2:]) / 2) > STEP).mean() for one in (cells, cells.T)
        ]
        told.append(dark or burnt or max(shares) < PLAIN)
        assert is_covered(cells) == told[-1]
    assert 30 < sum(told) < 270


def test_sharpness_is_that_of_a_step_and_of_a_ramp():
    step = np.zeros((40, 40), np.float32)
    step[:, 20:] = 200
    ramps = np.tile(np.arange(40, dtype=np.float32) * 5, (40, 1))
    across = 40 / 39 * 36 / 40  # means are over different numbers of pairs
    assert sharpness(step)[1] == pytest.approx(across / 4, rel=0.01)
    assert sharpness(ramps)[1] == pytest.approx(1 / 16, rel=0.01)
    np.testing.assert_allclose(sharpness(step.T), sharpness(step)[::-1])


def test_pictures_of_another_size_may_follow():
    check = primed()
    assert check.judge(textured(50, (480, 640))) in (None, "blurred")
    assert check.judge(textured(51)) is None


@pytest.mark.parametrize(
    ("name", "false_alarms"),
    [("hololens_office", 0), ("opensfm_lund", 0), ("train/tum_fr1_desk_rgb", 2)],
)
def test_real_sequences_are_used_but_for_frames_that_motion_blurs(shared_data, name, false_alarms):
    check = FrameCheck()
    verdicts = [check.judge(photo) for photo in photos(shared_data / name, 128)]
    assert set(verdicts) <= {None, "blurred"}
    assert verdicts.count("blurred") <= false_alarms


@pytest.mark.parametrize("name", ["hololens_office", "opensfm_lund", "train/pochang_office"])
def test_blur_put_on_real_photos_is_found(shared_data, name):
    sequence = photos(shared_data / name, 128)
    found = []
    for turn in range(ENOUGH, len(sequence), 5):
        check = FrameCheck()
        for photo in sequence[max(0, turn - MEMORY) : turn]:
            check.judge(photo)
        found.append(check.judge(blurred(sequence[turn], 2.0)))
    assert set(found) == {"blurred"}


def test_a_real_lens_covered_by_cloth_is_covered(shared_data):
    photo = photos(shared_data / "hololens_office", 128)[0]
    assert FrameCheck().judge(with_noise(blurred(photo, 24) * 0.1, 3)) == "covered"
