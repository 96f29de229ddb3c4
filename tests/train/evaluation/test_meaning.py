"""What Gaussians and pixels are called: by hand on small scenes."""

import numpy as np
import pytest
import torch
from boxclips import UNIT, Oracle, box_clips

from data.clip import UNKNOWN
from data.rooms import WHOLE_NAMES
from ffsplat import codes
from ffsplat.codebook import lexicon_codebook, rows_of_level
from ffsplat.evaluation.panoptic import VOID
from ffsplat.merge import gaussians_from_prediction
from ffsplat.types import Codebook, Gaussians, Scene
from train.clips import batch_from_clip
from train.evaluation import meaning
from train.evaluation import tally as summaries
from train.evaluation.baselines import Statistics
from train.evaluation.tally import Tally

WALL, FLOOR, SOFA, TABLE = (WHOLE_NAMES.index(name) for name in ("wall", "floor", "sofa", "table"))
NOBODY = Statistics(None, None, None, None)


def small_scene(means, wholes, parts, instances) -> Scene:
    """A scene of small opaque Gaussians, each of one whole row and, a little less, of one part."""
    n, codebook = len(means), lexicon_codebook()
    whole, part = (rows_of_level(codebook, level) for level in ("whole", "part"))
    ids = np.stack([whole[np.array(wholes)], part[np.array(parts)]], axis=1)
    return Scene(
        Gaussians(
            np.array(means, np.float32),
            np.full((n, 3), 0.01, np.float32),
            np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1)),
            np.full(n, 0.9, np.float32),
            np.zeros((n, 1, 3), np.float32),
        ),
        codes=codes.from_pairs(ids, np.full((n, 2), 0.5)),
        instances=np.array(instances, np.int32),
        codebook=codebook,
    )


def test_classes_count_the_rows_of_a_level():
    scene = small_scene(np.zeros((2, 3)), [SOFA, 57], [61, 0], [-1, -1])
    whole, count = meaning.heaviest_classes(scene, "whole")
    assert (whole.tolist(), count) == ([SOFA, 57], 58)
    part, count = meaning.heaviest_classes(scene, "part")
    assert (part.tolist(), count) == ([61, 0], 62)


def test_no_evidence_has_no_class():
    scene = small_scene(np.zeros((1, 3)), [SOFA], [0], [-1])
    ids = np.array([[-1, -1]], np.int16)
    nothing = codes.from_pairs(ids, np.zeros((1, 2)))
    bare = Scene(scene.gaussians, codes=nothing, codebook=scene.codebook)
    assert meaning.heaviest_classes(bare, "whole")[0].tolist() == [-1]


def test_things_come_from_instances_and_stuff_from_codes():
    # Instance 0 is of the sofa, 1 of the wall; one Gaussian of the table is nobody's.
    scene = small_scene(np.zeros((4, 3)), [SOFA, WALL, TABLE, SOFA], [0] * 4, [0, 1, -1, 0])
    called = np.array([[SOFA, WALL, TABLE, WALL, VOID, TABLE, VOID]])
    instances = np.array([[0, 1, -1, -1, -1, 0, 1]])
    found = meaning.panoptic_guess(scene, called, instances)
    # A table without an object is void; the sofa's object holds although the code says table.
    assert found.classes.tolist() == [[SOFA, WALL, VOID, WALL, VOID, SOFA, VOID]]
    assert found.numbers[0, [0, 5]].tolist() == [0, 0]
    assert len(set(found.numbers[0, [1, 3]])) == 1


def test_a_scene_without_instances_shows_stuff_alone():
    scene = small_scene(np.zeros((1, 3)), [FLOOR], [0], [-1])
    found = meaning.panoptic_guess(scene, np.array([[FLOOR, SOFA]]), np.array([[-1, -1]]))
    assert found.classes.tolist() == [[FLOOR, VOID]]


def test_the_truth_is_void_where_nobody_labelled():
    whole = torch.tensor([[SOFA, WALL, SOFA, UNKNOWN]])
    identity = torch.tensor([[3, -2, UNKNOWN, 4]])
    found = meaning.panoptic_truth(whole, identity)
    assert found.classes.tolist() == [[SOFA, WALL, VOID, VOID]]
    assert found.numbers[0, :2].tolist() == [3, -2]


def test_stuff_is_what_a_room_is_made_of():
    rows = meaning.stuff_rows(len(WHOLE_NAMES))
    assert [WHOLE_NAMES[row] for row in np.flatnonzero(rows)] == ["wall", "floor", "ceiling"]


def test_every_gaussian_is_asked_for_the_nearest_point():
    batch = batch_from_clip(box_clips(1, 2, 16)[0], np.arange(2), (16, 16))
    means = gaussians_from_prediction(Oracle(batch)(batch.images)).means[0] / UNIT
    random = torch.Generator().manual_seed(0)
    places = means[::7] + 0.1 * torch.randn(len(means[::7]), 3, generator=random)
    whole, part = (getattr(batch, level).flatten() for level in ("whole", "part"))
    said = whole[::7].clone()
    said[:10] = FLOOR
    scene = small_scene(places.numpy(), said.numpy(), part[::7].numpy(), [-1] * len(places))
    tally = Tally()
    meaning.add_surface(tally, scene, batch, NOBODY)
    nearest = torch.cdist(places.double(), means.double()).argmin(1)
    for level, guess, truth in (("whole", said, whole), ("part", part[::7], part)):
        expected = (guess == truth[nearest]).double().mean().item()
        found = summaries.accuracy(f"{level} 3d")(tally, "network")
        assert found == pytest.approx(expected)
    assert 0.5 < summaries.accuracy("whole 3d")(tally, "network") < 1


def test_uncovered_pixels_are_wrong():
    batch = batch_from_clip(box_clips(1, 2, 16)[0], np.arange(2), (16, 16))
    behind = small_scene([[0.0, 0.0, -1.0]], [WALL], [0], [-1])
    tally = Tally()
    meaning.add_splatted(tally, behind, batch.views(slice(0, 1)), NOBODY)
    assert tally.counts["whole splatted", "network"].sum() == 16 * 16
    assert summaries.accuracy("whole splatted")(tally, "network") == 0


def test_a_codebook_may_hold_its_levels_in_any_order():
    codebook = lexicon_codebook()
    order = np.argsort(-codebook.levels, kind="stable")
    turned = Codebook(
        tuple(codebook.names[row] for row in order), codebook.levels[order],
        codebook.parents, codebook.counts, codebook.spaces,
    )  # fmt: skip
    row = rows_of_level(turned, "whole")[SOFA]
    scene = small_scene(np.zeros((1, 3)), [0], [0], [-1])
    code = codes.from_pairs(np.array([[row]]), np.ones((1, 1)), 1)
    other = Scene(scene.gaussians, codes=code, codebook=turned)
    assert turned.names[row] == "sofa"
    assert meaning.heaviest_classes(other, "whole")[0].tolist() == [SOFA]
