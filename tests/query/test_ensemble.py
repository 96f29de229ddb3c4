import numpy as np
import pytest
from small_room import small_room

from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.query.ensemble import ensemble

FIRST = np.array([0.9, 0.2, 0.5], np.float32)
SECOND = np.array([0.4, 0.3, 0.5], np.float32)


@pytest.mark.parametrize(
    ("exponent", "joined"),
    [(0.0, np.minimum(FIRST, SECOND)), (1.0, np.maximum(FIRST, SECOND)),
     (0.5, np.sqrt(FIRST * SECOND)), (0.25, [0.9**0.25 * 0.4**0.75, 0.3**0.25 * 0.2**0.75, 0.5])],
)  # fmt: skip
def test_two_probabilities_are_joined_by_the_larger_and_the_smaller(exponent, joined):
    assert ensemble(FIRST, SECOND, exponent) == pytest.approx(np.array(joined), abs=1e-6)
    assert ensemble(SECOND, FIRST, exponent) == pytest.approx(np.array(joined), abs=1e-6)


def test_a_lone_wrong_gaussian_is_outvoted_by_its_surroundings():
    room = small_room(1000)
    ids = room.codes.ids.copy()
    odd = 350  # of the sofa
    ids[odd, 0] = room.codebook.names.index("table")
    noisy = type(room)(
        room.gaussians, type(room.codes)(ids, room.codes.weights, room.codes.norms),
        room.instances, room.codebook,
    )  # fmt: skip
    options = {"strategy": "ensemble", "labels": ("sofa", "wall", "chair")}
    assert query(noisy, "table").scores[odd] == 1
    found = query(noisy, "table", **options)
    assert found.scores[odd] < 0.01  # both must agree
    assert found.scores[room.instances == 0] == pytest.approx(np.ones(300), abs=1e-3)
    assert found.labels == ("table", "sofa", "wall", "chair")
    assert (found.label[room.instances == 0] == 0).all()
    either = query(noisy, "table", exponent=1.0, **options)
    assert either.scores[odd] > 0.99


def test_without_unit_vectors_disagreeing_views_are_nearer_to_no_label():
    room = small_room(200)
    mixed = np.stack([room.codes.ids[:, 0], np.full(200, room.codebook.names.index("bed"))], 1)
    from ffsplat import codes

    scene = type(room)(
        room.gaussians, codes.from_pairs(mixed, np.full((200, 2), 0.5)), room.instances,
        room.codebook,
    )  # fmt: skip
    options = {"strategy": "ensemble", "labels": ("sofa", "wall"), "scale": 2.0}
    table = scene.instances == 0
    with_unit = query(scene, "table", **options).scores[table].mean()
    without = query(scene, "table", unit=False, **options).scores[table].mean()
    assert with_unit == pytest.approx(np.exp(2**0.5) / (np.exp(2**0.5) + 2), abs=5e-3)
    assert without == pytest.approx(np.exp(1) / (np.exp(1) + 2), abs=5e-3)
    options["exponent"] = 1.0  # the larger is that of the surroundings, by their cosines
    nearby = query(scene, "table", unit=False, **options).scores[table].mean()
    assert nearby == pytest.approx(with_unit, abs=5e-3)


def test_an_exponent_that_is_none_is_refused():
    with pytest.raises(UsageError, match="between 0 and 1"):
        query(small_room(50), "table", strategy="ensemble", labels=("sofa",), exponent=2.0)


def test_the_lexicon_wants_labels_to_tell_the_text_from():
    with pytest.raises(UsageError, match="no canonical phrases") as caught:
        query(small_room(50), "chair", strategy="ensemble")
    assert "--labels" in str(caught.value.hint)
