import numpy as np
import pytest

from ffsplat.errors import StreamError
from ffsplat.stream.map import SplatMap
from tests.stream.map.made import CELL, random_observed, random_pose, settings


def lived(seed=0, **changes) -> tuple[SplatMap, np.random.Generator]:
    """A map that has been through a lot."""
    rng = np.random.default_rng(seed)
    splats = SplatMap(settings(max_splats=100, **changes), CELL)
    for _ in range(3):
        splats.add_submap(random_pose(rng))
    go_on(splats, rng, 0)
    splats.remove_submap(1)
    return splats, rng


def go_on(splats, rng, start):
    for now in range(start, start + 10):
        number = int(rng.choice(splats.submaps()))
        splats.fuse(random_observed(rng, 25, size=1.5), number, splats.submaps(), now)
        if now % 3:
            splats.take_changes()


def same(a, b):
    assert a.keys() == b.keys()
    for name, array in a.items():
        assert array.dtype == b[name].dtype, name
        assert array.shape == b[name].shape, name
        assert array.tobytes() == b[name].tobytes(), name


def test_a_map_goes_on_from_its_state_bit_for_bit():
    splats, _ = lived()
    state = {name: array.copy() for name, array in splats.state().items()}
    again = SplatMap.from_state(splats.settings, state)
    same(again.state(), state)
    for one in (splats, again):
        go_on(one, np.random.default_rng(7), 10)
    same(again.state(), splats.state())
    same(vars(again.take_changes().splats), vars(splats.take_changes().splats))


def test_a_state_is_a_copy():
    splats, rng = lived()
    state = splats.state()
    before = {name: array.copy() for name, array in state.items()}
    go_on(splats, rng, 10)
    splats.move_submaps([0], [random_pose(rng)])
    same(state, before)


def test_an_empty_map_has_a_state():
    splats = SplatMap(settings(), CELL)
    again = SplatMap.from_state(settings(), splats.state())
    assert (len(again), again.cell, again.submaps()) == (0, CELL, [])


@pytest.mark.parametrize("changes", [{"max_splats": 99}, {"max_splats": 101}, {"max_submaps": 5}])
def test_a_map_of_another_size_is_refused(changes):
    splats, _ = lived()
    with pytest.raises(StreamError, match="another size"):
        SplatMap.from_state(settings(**{"max_splats": 100, **changes}), splats.state())


@pytest.mark.parametrize("name", sorted(SplatMap(settings(max_splats=1), CELL).state()))
def test_an_array_that_is_missing_or_of_another_type_is_refused(name):
    splats, _ = lived()
    state = splats.state()
    array = state.pop(name)
    with pytest.raises(StreamError):
        SplatMap.from_state(splats.settings, state)
    for other in (array[None], array.astype(np.complex128)):
        with pytest.raises(StreamError):
            SplatMap.from_state(splats.settings, {**state, name: other})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("places", -1),
        ("places", 1000),
        ("unused", 0),
        ("lost", 50_000),
        ("sent", 4),
        ("lost_from", -1),
        ("keys", -1),
        ("keys", 3 << 48),
        ("keys", 2**62),
        ("means", np.nan),
        ("weights", 0),
        ("weights", -1),
        ("ids", -2),
        ("submap_poses", np.inf),
        ("submap_used", False),
    ],
)
def test_a_value_that_cannot_be_is_refused(name, value):
    splats, _ = lived()
    state = splats.state()
    if name in ("unused", "lost"):
        state[name] = np.append(state[name], np.int32(value))
    else:
        state[name][0] = value
    with pytest.raises(StreamError, match="damaged"):
        SplatMap.from_state(splats.settings, state)


@pytest.mark.parametrize("cell", [0.0, -1.0, np.nan, np.inf])
def test_a_cell_that_cannot_be_is_refused(cell):
    splats, _ = lived()
    with pytest.raises(StreamError, match="damaged"):
        SplatMap.from_state(splats.settings, {**splats.state(), "cell": np.array(cell)})
