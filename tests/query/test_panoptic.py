"""Labels and objects together, in space and in a view."""

import numpy as np

from ffsplat.query.panoptic import Panoptic, panoptic, panoptic_map
from tests.query.rooms import lexicon_room

LABELS = ("wall", "chair", "table")


def test_an_instance_is_called_what_it_is_together():
    room = lexicon_room(
        [{"chair": 1}, {"chair": 1}, {"table": 1}, {"table": 1}, {"wall": 1}, {"wall": 1}, {}],
        [4, 4, 4, 2, 7, -1, -1],
    )
    found = panoptic(room, LABELS)
    assert found.label.tolist() == [1, 1, 1, 2, 0, 0, -1]
    assert found.segment.tolist() == [4, 4, 4, 2, -1, -1, -1]
    heavy = room.gaussians.opacities
    heavy[:2] = 0.1
    assert panoptic(room, LABELS).label.tolist()[:3] == [2, 2, 2]


def test_without_instances_all_is_called_by_itself():
    room = lexicon_room([{"chair": 1}, {"table": 1}])
    found = panoptic(room, LABELS)
    assert (found.label.tolist(), found.segment.tolist()) == ([1, 2], [-1, -1])


def by_the_rule(probabilities, masks, stuff) -> Panoptic:
    """The rule of DETR written out pixel by pixel."""
    kept = [q for q in range(len(masks)) if probabilities[q].max() > 0.5]
    product = {q: masks[q] * probabilities[q].max() for q in kept}
    label, segment = (np.full(masks.shape[1:], -1, np.int32) for _ in range(2))
    owner = {at: max(kept, key=lambda q: product[q][at]) for at in np.ndindex(masks.shape[1:])}
    for q in kept:
        own = [at for at in owner if owner[at] == q]
        area = sum(product[q][at] >= 0.5 for at in owner)
        if own and area and len(own) / area > 0.8:
            for at in own:
                label[at] = probabilities[q].argmax()
                segment[at] = -1 if label[at] in stuff else q
    return Panoptic(LABELS, label, segment)


def test_a_view_is_cut_by_the_rule_of_maskformer():
    labelled = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        probabilities = random.dirichlet(np.full(3, 0.3), 5).astype(np.float32)
        waves = np.exp(4 * np.sin(random.uniform(0, 1, (5, 1, 1)) * np.arange(12) * 2
                                  + random.uniform(0, 6, (5, 9, 1))))  # fmt: skip
        masks = (waves / waves.sum(0)).astype(np.float32)
        found = panoptic_map(LABELS, probabilities, masks, stuff=("wall",))
        expected = by_the_rule(probabilities, masks, {0})
        np.testing.assert_array_equal(found.label, expected.label)
        np.testing.assert_array_equal(found.segment, expected.segment)
        labelled += (found.label >= 0).sum()
    assert labelled > 300


def test_a_view_of_nothing_sure_is_empty():
    even = np.full((2, 3), 1 / 3, np.float32)
    found = panoptic_map(LABELS, even, np.ones((2, 4, 5), np.float32))
    assert (found.label == -1).all()
    assert (found.segment == -1).all()
