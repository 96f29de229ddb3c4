"""Every protocol beside the original's arithmetic, written out with other libraries."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score
from small_room import small_room
from toyspaces import Words

from ffsplat.errors import UsageError
from ffsplat.evaluation import protocols
from ffsplat.evaluation.asking import Subject, stem
from ffsplat.evaluation.truth import LabelledView
from ffsplat.query import with_space
from ffsplat.render import render
from ffsplat.render.splatting import rasterize
from ffsplat.types import Cameras

SIZE = 64, 48
CANON = ("object", "things", "stuff", "texture")


def cameras(*names: str) -> Cameras:
    """All at the origin, with half the pixels of the labels."""
    pose = np.eye(4, dtype=np.float32)
    pose[0, 3] = 0.4
    lens = np.array([[20, 0, 16], [0, 20, 12], [0, 0, 1]], np.float32)
    count = len(names)
    return Cameras(
        np.tile(pose, (count, 1, 1)),
        np.tile(lens, (count, 1, 1)),
        np.tile(np.array([[32, 24]], np.int32), (count, 1)),
        names,
    )


def subject(**more) -> Subject:
    return Subject(replace(small_room(), cameras=cameras("images/frame_1.jpg", "7.png")), **more)


def view(name: str = "frame_1", instances=None, **masks: np.ndarray) -> LabelledView:
    boxes = {phrase: np.array([[0.0, 0, 40, 47]]) for phrase in masks}
    return LabelledView(name, masks, boxes, instances)


def empty() -> np.ndarray:
    return np.zeros(SIZE[::-1], bool)


def test_names_of_photos_lose_folder_and_extension():
    names = ("a/b/frame_1.jpg", "c\\7.png", "plain", ".hidden", "x.y.jpg")
    assert [stem(name) for name in names] == ["frame_1", "7", "plain", ".hidden", "x.y"]


def test_a_camera_takes_the_size_of_the_labels():
    camera = subject().camera(view(table=empty()))
    np.testing.assert_allclose(camera.intrinsics[0], [[40, 0, 32], [0, 40, 24], [0, 0, 1]])
    assert camera.sizes.tolist() == [[64, 48]]


def test_labels_of_another_shape_are_refused():
    with pytest.raises(UsageError, match="48x64 pixels, its photo 32x24"):
        subject().camera(view("7", table=np.zeros((64, 48), bool)))


def test_photos_without_a_camera_are_left_out_unless_all_are():
    asked, views = subject(), [view("7", table=empty()), view("other", table=empty())]
    assert [one.name for one in asked.seen(views)] == ["7"]
    with pytest.raises(UsageError, match="such as other"):
        asked.seen(views[1:])


def test_a_scene_without_cameras_is_refused():
    with pytest.raises(UsageError, match="no cameras"):
        Subject(small_room()).camera(view(table=empty()))


def test_what_is_selected_in_space_covers_its_silhouette():
    """Half of the table's silhouette is the truth, and nothing is a lamp or a zorgle."""
    asked = subject()
    camera = asked.camera(view(table=empty()))
    drawn = render(small_room()[:300], camera, "opacity")[0] > 10 / 255
    half = drawn.copy()
    half[:, np.flatnonzero(drawn.any(axis=0))[-6:]] = False
    labels = view(table=half, lamp=drawn, zorgle=drawn)
    ious = [half.sum() / drawn.sum(), 0, 0]
    assert 0.5 < ious[0] < 1
    assert protocols.selected(asked, [labels]) == {
        "miou": pytest.approx(np.mean(ious)),
        "macc@0.25": pytest.approx(1 / 3),
        "macc@0.5": pytest.approx(1 / 3),
    }
    assert asked.unknown == {"zorgle"}


def test_pixels_are_named_as_3d_ovs_counts_them():
    asked, generator = subject(), np.random.default_rng(0)
    names = ("bed", "sofa", "table", "wall")
    truth = {name: generator.random(SIZE[::-1]) > 0.6 for name in names}
    views = [view("frame_1", **truth), view("7", **{n: ~m for n, m in truth.items()})]
    found = protocols.named(asked, views)
    ious, right = [], []
    for one in views:
        camera = asked.camera(one)
        codes = render(asked.scene, camera, "codes", opacity="color")[0]
        called = protocols.best_class(asked, one, camera)
        book = asked.scene.codebook
        rows = np.array([book.names.index(name) for name in names])
        solid = codes >= 0
        np.testing.assert_array_equal(rows[called[solid]], codes[solid])
        guess = np.stack([called == i for i in range(4)], -1).reshape(-1, 4).astype(int)
        true = np.stack(list(one.masks.values()), -1).reshape(-1, 4).astype(int)
        ious.append(jaccard_score(true, guess, average=None, zero_division=0))
        right.append(accuracy_score(true, guess))
    assert found["miou"] == pytest.approx(np.mean(ious))
    assert found["accuracy"] == pytest.approx(np.mean(right))


def test_a_scene_measured_against_its_own_labels_is_right():
    asked = subject()
    blank = view(table=empty(), sofa=empty(), wall=empty())
    camera = asked.camera(blank)
    called = protocols.best_class(asked, blank, camera)
    objects = render(asked.scene, camera, "instance")[0]
    named = np.where(objects >= 0, called, -1)
    masks = {name: named == place for place, name in enumerate(blank.masks)}
    truth = view(instances=objects, **masks)
    perfect = dict.fromkeys(("miou", "macc", "accuracy", "pq", "sq", "rq"), 1.0)
    assert protocols.panoptic(asked, [truth]) == pytest.approx(perfect)

    table = np.argwhere(masks["table"])
    masks["table"][tuple(table[: len(table) // 4].T)] = False
    worse = protocols.panoptic(asked, [view(instances=objects, **masks)])
    assert worse["accuracy"] == 1  # unlabelled pixels count for nothing
    assert worse["pq"] == pytest.approx(1)


def test_an_object_takes_the_class_of_most_of_its_pixels():
    called = np.array([[0, 0, 1], [2, 2, -1]], np.int32)
    objects = np.array([[5, 5, 5], [-1, 6, 6]], np.int32)
    np.testing.assert_array_equal(protocols._voted(called, objects), [[0, 0, 0], [2, -1, -1]])


def langsplat(features: np.ndarray, texts: np.ndarray, canon: np.ndarray, truth, box):
    """IoU and hit of one phrase, from a map of features, as LangSplat's code has it."""
    pair = [np.stack([features @ texts, features @ one], -1) * 10 for one in canon]
    relevancy = np.min([np.exp(p[..., 0]) / np.exp(p).sum(-1) for p in pair], axis=0)
    mean = cv2.filter2D(relevancy.astype(np.float32), -1, np.ones((30, 30)) / 900)
    smooth = 0.5 * (mean + relevancy)
    stretched = np.clip((smooth - smooth.min()) / (np.ptp(smooth) + 1e-9) * 2 - 1, 0, 1)
    mask, voted = stretched > 0.4, np.zeros(truth.shape, bool)
    for y, x in np.ndindex(mask.shape):
        around = mask[max(0, y - 3) : min(y + 4, 47), max(0, x - 3) : min(x + 4, 63)]
        voted[y, x] = around.mean() > 0.5
    y, x = np.unravel_index(mean.argmax(), mean.shape)
    hit = box[0] <= x <= box[2] and box[1] <= y <= box[3]
    return (voted & truth).sum() / (voted | truth).sum(), hit


def test_relevancy_maps_are_measured_as_langsplat_does():
    words = Words()
    scene = small_room()
    book = with_space(scene.codebook, words)
    wholes = {name: space for name, space in book.spaces.items() if name == words.name}
    scene = replace(scene, codebook=replace(book, spaces=wholes), cameras=cameras("frame_1.jpg"))
    asked = Subject(scene, space=words)
    truth = {phrase: empty() for phrase in ("table", "sofa", "piano")}
    truth["table"][10:35, 5:35] = truth["sofa"][10:35, 30:60] = True
    truth["piano"][0:9, 0:9] = True
    labels = view(**truth)
    found = protocols.activated(asked, [labels])

    camera = asked.camera(labels)
    rows = book.spaces[words.name].astype(np.float32)[scene.codes.ids[:, 0]]
    arrays = (scene.gaussians.means, scene.gaussians.quaternions_wxyz, scene.gaussians.scales,
              scene.gaussians.opacities, rows / np.linalg.norm(rows, axis=1, keepdims=True),
              camera.world_from_camera, camera.intrinsics)  # fmt: skip
    drawn = rasterize(*(torch.from_numpy(one) for one in arrays), *SIZE).features[0].numpy()
    texts, canon = words.encode(list(truth)), words.encode(CANON)
    expected = [
        langsplat(drawn, text, canon, mask, (0, 0, 40, 47))
        for text, mask in zip(texts, truth.values(), strict=True)
    ]
    assert asked.levels() == ("whole", "part")
    assert found["miou"] == pytest.approx(np.mean([iou for iou, _ in expected]), abs=1e-3)
    assert found["localization"] == pytest.approx(np.mean([hit for _, hit in expected]))
