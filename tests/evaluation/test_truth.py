"""Label files in the forms in which they are published, made here."""

import json

import numpy as np
import pytest
from PIL import Image

from ffsplat.errors import SceneFileError
from ffsplat.evaluation.truth import read_3d_ovs, read_folder, read_lerf_ovs


def lerf(folder, objects, width=40, height=30):
    content = {"info": {"name": "frame_00041.jpg", "width": width, "height": height}}
    (folder / "frame_00041.json").write_text(json.dumps(content | {"objects": objects}))


def thing(category, *points, bbox=(1, 2, 3, 4)):
    return {"category": category, "segmentation": [list(p) for p in points], "bbox": list(bbox)}


def test_polygons_of_one_category_are_one_mask_with_two_boxes(tmp_path):
    lerf(
        tmp_path,
        [
            thing("cup", (2.9, 3), (8, 3), (8, 6), (2.9, 6), bbox=(2, 3, 8, 6)),
            thing("cup", (20, 20), (21, 20), (21, 21), (20, 21), bbox=[20, 20, 21, 21]),
            thing("red apple", (30, 1), (35, 1), (35, 4)),
        ],
    )
    (view,) = read_lerf_ovs(tmp_path)
    assert (view.name, view.size) == ("frame_00041", (40, 30))
    expected = np.zeros((30, 40), bool)
    expected[3:7, 2:9] = expected[20:22, 20:22] = True
    np.testing.assert_array_equal(view.masks["cup"], expected)
    np.testing.assert_array_equal(view.boxes["cup"], [[2, 3, 8, 6], [20, 20, 21, 21]])
    assert list(view.masks) == ["cup", "red apple"]


@pytest.mark.parametrize(
    "polygons",
    [
        [[[3, 3], [8, 3], [8, 6], [3, 6]], [[20, 20], [22, 20], [22, 21], [20, 21]]],
        [[3, 3, 8, 3, 8, 6, 3, 6], [20, 20, 22, 20, 22, 21, 20, 21]],
    ],
)
def test_an_object_of_several_polygons_is_all_of_them(tmp_path, polygons):
    lerf(tmp_path, [{"category": "cup", "segmentation": polygons, "bbox": [3, 3, 22, 21]}])
    (view,) = read_lerf_ovs(tmp_path)
    assert view.masks["cup"][3:7, 3:9].all()
    assert view.masks["cup"].sum() == 4 * 6 + 2 * 3
    flat = [{"category": "cup", "segmentation": polygons[0], "bbox": [3, 3, 22, 21]}]
    lerf(tmp_path, flat)
    assert read_lerf_ovs(tmp_path)[0].masks["cup"].sum() == 4 * 6


def test_masks_of_lerf_are_read_as_they_are_drawn(tmp_path):
    frame = tmp_path / "gt" / "frame_00041"
    frame.mkdir(parents=True)
    values = np.zeros((16, 24), np.uint8)
    values[:, 8:16] = 255
    Image.fromarray(values).save(frame / "green apple.jpg", quality=70)
    Image.fromarray(values // 20).save(frame / "cup.png")
    (frame / "notes.txt").write_text("")
    (view,) = read_lerf_ovs(tmp_path)
    assert (view.name, view.size, view.boxes) == ("frame_00041", (24, 16), {})
    np.testing.assert_array_equal(view.masks["green apple"], values > 10)
    np.testing.assert_array_equal(view.masks["cup"], values // 20 > 10)


def test_a_folder_of_several_scenes_names_one(tmp_path):
    (tmp_path / "ramen").mkdir()
    lerf(tmp_path / "ramen", [thing("egg", (1, 1), (2, 2), (3, 1))])
    with pytest.raises(SceneFileError, match="several scenes") as caught:
        read_lerf_ovs(tmp_path)
    assert "ramen" in str(caught.value.hint)


@pytest.mark.parametrize(
    "objects",
    [
        [{"category": "cup"}],
        [thing("cup", ("a", "b"))],
        [thing("cup", (1, 2), bbox=(1, 2))],
        [thing("cup", (float("nan"), 2))],
        7,
    ],
)
def test_bad_objects_of_lerf_are_refused(tmp_path, objects):
    lerf(tmp_path, objects)
    with pytest.raises(SceneFileError):
        read_lerf_ovs(tmp_path)


def test_an_image_that_is_too_large_is_refused_before_it_is_drawn(tmp_path):
    lerf(tmp_path, [thing("cup", (1, 1), (2, 2), (3, 1))], width=10**6, height=10**6)
    with pytest.raises(SceneFileError, match="1000000"):
        read_lerf_ovs(tmp_path)


def test_a_folder_without_labels_says_so(tmp_path):
    with pytest.raises(SceneFileError, match=r"frame_\*"):
        read_lerf_ovs(tmp_path)


def ovs(folder, names=("table", "apple")):
    frame = folder / "segmentations" / "03"
    frame.mkdir(parents=True)
    (folder / "segmentations" / "classes.txt").write_text("\n".join(names) + "\n")
    for place, name in enumerate(names):
        values = np.zeros((6, 8), np.uint8)
        values[place, :] = 255
        values[5, 0] = 254  # not quite white is not in the mask
        Image.fromarray(values).save(frame / f"{name}.png")


def test_classes_of_3d_ovs_stand_by_name(tmp_path):
    ovs(tmp_path)
    (view,) = read_3d_ovs(tmp_path)
    assert (view.name, list(view.masks)) == ("03", ["apple", "table"])
    assert view.masks["table"][0].all()
    assert view.masks["table"].sum() == 8


@pytest.mark.parametrize("names", [(), ("../secret",), ("absent",)])
def test_a_bad_list_of_classes_is_refused(tmp_path, names):
    ovs(tmp_path)
    (tmp_path / "segmentations" / "classes.txt").write_text("\n".join(names))
    with pytest.raises(SceneFileError):
        read_3d_ovs(tmp_path)


def test_a_class_without_a_mask_is_named(tmp_path):
    ovs(tmp_path)
    (tmp_path / "segmentations" / "03" / "apple.png").unlink()
    with pytest.raises(SceneFileError, match=r"03 has no mask apple\.png"):
        read_3d_ovs(tmp_path)


def plain(folder, **frame):
    label = np.array([[0, 1, 2], [2, 2, 9]], np.uint8)
    Image.fromarray(label).save(folder / "label.png")
    Image.fromarray(np.array([[0, 1, 2], [3, 3, 0]], np.uint16)).save(folder / "instance.png")
    frame = {"image": "images/7.jpg", "label": "label.png", "instance": "instance.png"} | frame
    content = {"label_names": {"0": "none", "1": "tea_cup", "2": "desk"}, "frames": [frame]}
    (folder / "cameras.json").write_text(json.dumps(content))


def test_a_plain_folder_gives_words_for_numbers(tmp_path):
    plain(tmp_path)
    (view,) = read_folder(tmp_path)
    assert (view.name, list(view.masks)) == ("7", ["tea cup", "desk"])
    np.testing.assert_array_equal(view.masks["desk"], [[0, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(view.instances, [[-1, 0, 1], [2, 2, -1]])


@pytest.mark.parametrize("label", ["../label.png", "absent.png", "cameras.json"])
def test_a_label_image_that_is_none_is_refused(tmp_path, label):
    plain(tmp_path, label=label)
    with pytest.raises(SceneFileError):
        read_folder(tmp_path)


def test_the_labelled_shelf_is_read(shared_data):
    views = read_folder(shared_data / "apc_shelf")
    assert {len(view.masks) for view in views} == {4}
    assert views[0].size == (640, 480)
