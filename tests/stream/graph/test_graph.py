import numpy as np
import pytest
from scipy.optimize import least_squares

from ffsplat.alignment import Similarity, camera_similarity
from ffsplat.stream.graph import sim3
from ffsplat.stream.graph.edges import Edge, PoseError, along, continued
from ffsplat.stream.graph.graph import PLAUSIBLE, WORLD, GraphFit, PoseGraph

ERROR = PoseError(0.01, 0.02, 0.01)


def circle(count: int, radius: float = 5.0) -> list[Similarity]:
    """Poses on a circle that look ahead, back almost at the first in the end."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    tangents = np.zeros((count, 7))
    tangents[:, 2] = angles
    stack = sim3.exponential(tangents)
    stack[:, :3, 3] = radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], -1)
    return [sim3.similarity(one) for one in stack]


def noisy(pose: Similarity, error: PoseError, random: np.random.Generator) -> Similarity:
    """A measurement of a pose i_from_j with this error."""
    tangent = random.normal(size=7) * np.sqrt(error.covariance(pose).diagonal())
    return pose @ sim3.similarity(sim3.exponential(tangent[None])[0])


def walk(
    truth: list[Similarity], drift: Similarity, error: PoseError = ERROR, seed: int | None = None
) -> PoseGraph:
    """A chain whose edges are all off by `drift`, or noisy, and poses as the chain gives them."""
    random = None if seed is None else np.random.default_rng(seed)
    graph = PoseGraph()
    graph.add_node(0, truth[0])
    for j in range(1, len(truth)):
        measured = truth[j - 1].inverse() @ truth[j] @ drift
        if random is not None:
            measured = noisy(measured, error, random)
        graph.add_node(j, graph.poses[j - 1] @ measured)
        graph.add_edge(j - 1, j, measured, error)
    return graph


def relative(truth: list[Similarity], i: int, j: int) -> Similarity:
    return truth[i].inverse() @ truth[j]


def error_of(poses: dict[int, Similarity], truth: list[Similarity]) -> float:
    """Root mean square distance of centres after the best rigid alignment."""
    found = sim3.matrices(poses[i] for i in sorted(poses))
    exact = sim3.matrices(truth[i] for i in sorted(poses))
    moved = camera_similarity(_rigid(found), _rigid(exact), 1.0).points(found[:, :3, 3])
    return float(np.sqrt(np.square(moved - exact[:, :3, 3]).sum(1).mean()))


def _rigid(stack: np.ndarray) -> np.ndarray:
    return np.stack([np.block([[one.rotation, one.translation[:, None]], [np.eye(4)[3]]])
                     for one in map(sim3.similarity, stack)])  # fmt: skip


def drift(rotation=(0.0, 0.0, 0.0), scale: float = 1.0) -> Similarity:
    tangent = np.array([[*rotation, 0, 0, 0, np.log(scale)]])
    return sim3.similarity(sim3.exponential(tangent)[0])


def assert_same(one: dict[int, Similarity], other: dict[int, Similarity], atol: float) -> None:
    assert one.keys() == other.keys()
    for node in one:
        np.testing.assert_allclose(
            sim3.matrices([one[node]]), sim3.matrices([other[node]]), atol=atol
        )


def test_exact_edges_recover_the_truth_from_poses_that_are_off():
    truth = circle(20)
    graph = walk(truth, Similarity.identity())
    graph.add_edge(19, 0, relative(truth, 19, 0), ERROR, loop=True)
    graph.add_edge(3, 12, relative(truth, 3, 12), ERROR, loop=True)
    random = np.random.default_rng(0)
    for node in range(1, 20):
        graph.set_pose(node, noisy(truth[node], PoseError(0.2, 0.5, 0.2), random))
    found = graph.optimize(fixed={0})
    assert_same(found, dict(enumerate(truth)), 1e-6)
    assert error_of(graph.poses, truth) > 0.1  # what is held stays until it is set


def test_a_loop_corrects_the_drift_of_scale():
    truth = circle(40)
    graph = walk(truth, drift(scale=0.99))
    before = error_of(graph.poses, truth)
    assert graph.poses[39].scale == pytest.approx(0.99**39)
    assert graph.add_edge(39, 0, relative(truth, 39, 0), ERROR, loop=True)
    found = graph.optimize(fixed={0})
    assert before > 0.9
    # A loop spreads the drift; that scale shrinks at each step it cannot know.
    assert error_of(found, truth) < 0.25 * before
    assert found[39].scale == pytest.approx(1.0, abs=0.02)


def test_what_ties_two_that_stay_is_left_out_and_changes_nothing():
    truth = circle(20)
    graph = walk(truth, drift(scale=0.99))
    graph.add_edge(15, 19, relative(truth, 15, 19), ERROR)
    fixed = set(range(12))
    fit = graph.fit(fixed)
    assert len(fit.state()["ends"]) == 9  # 11 - 12 to 18 - 19, and 15 - 19
    fit.run(30)
    for node in fixed:
        graph.add_prior(node, graph.poses[node], PoseError(1e-4, 1e-4, 1e-4))
    held = graph.optimize()
    assert_same({node: held[node] for node in fit.found()}, fit.found(), 1e-3)


def test_a_locked_scale_never_changes():
    truth = circle(30)
    graph = walk(truth, drift(rotation=(0, 0, 0.004)))
    graph.add_edge(29, 0, relative(truth, 29, 0), ERROR, loop=True)
    found = graph.optimize(fixed={0}, lock_scale=True)
    assert [pose.scale for pose in found.values()] == pytest.approx([1.0] * 30)
    assert error_of(found, truth) < 0.5 * error_of(graph.poses, truth)


def test_a_loop_that_the_chain_cannot_explain_is_refused():
    truth = circle(30)
    graph = walk(truth, Similarity.identity(), seed=0)
    true, false = relative(truth, 29, 0), relative(truth, 29, 12)
    assert not graph.add_edge(29, 0, false, ERROR, loop=True)
    assert graph.doubt(29, 0, false, ERROR) > 1 > graph.doubt(29, 0, true, ERROR)
    assert graph.add_edge(29, 0, true, ERROR, loop=True)


@pytest.mark.parametrize("seed", range(5))
def test_true_loops_are_let_in_and_outvote_a_false_one_that_was(seed):
    truth = circle(40)
    graph = walk(truth, Similarity.identity(), seed=seed)
    off = truth[0] @ drift(rotation=(0, 0, 0.5)) @ truth[0].inverse()
    false = truth[20].inverse() @ off @ truth[0]
    loops = [(39, 0), (38, 1), (37, 2)]
    graph._add(Edge(20, 0, false, ERROR.covariance(false), loop=True))
    for i, j in loops:
        assert graph.add_edge(i, j, relative(truth, i, j), ERROR, loop=True)
    with_false = graph.optimize(fixed={0})
    graph._remove(next(one for one in graph.edges if (one.i, one.j) == (20, 0)))
    assert_same(with_false, graph.optimize(fixed={0}), 0.02)


def test_the_chi_squared_test_lets_in_as_many_true_loops_as_it_says():
    truth, random = circle(20), np.random.default_rng(7)
    doubts = []
    for seed in range(60):
        graph = walk(truth, Similarity.identity(), seed=seed)
        measured = noisy(relative(truth, 19, 0), ERROR, random)
        doubts.append(graph.doubt(19, 0, measured, ERROR))
    assert max(doubts) < 1
    # Chi-squared has a mean of 7; errors that do not correlate, as here, are below it.
    assert 0.1 < np.mean(doubts) * PLAUSIBLE / 7 < 1


def test_a_given_pose_pulls_a_chain_to_where_it_is():
    truth = circle(30)
    graph = walk(truth, drift(rotation=(0, 0, 0.002), scale=1.003))
    for node in (0, 10, 20, 29):
        graph.add_prior(node, truth[node], PoseError(0.001, 0.001, 0.001))
    found = graph.optimize()
    assert error_of(found, truth) < 0.2 * error_of(graph.poses, truth)
    for node in (0, 10, 20, 29):
        assert np.linalg.norm(found[node].translation - truth[node].translation) < 0.02


def test_the_optimum_is_that_of_another_solver():
    random = np.random.default_rng(3)
    truth = circle(6)
    graph = PoseGraph()
    for node, pose in enumerate(truth):
        graph.add_node(node, noisy(pose, PoseError(0.2, 0.3, 0.1), random))
    pairs = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (1, 4), (0, 3)]
    error = PoseError(0.05, 0.1, 0.03)
    for i, j in pairs:
        graph.add_edge(i, j, noisy(relative(truth, i, j), error, random), error)
    graph.add_prior(2, truth[2], error)
    edges = graph.edges

    def residuals(values: np.ndarray) -> np.ndarray:
        poses = sim3.exponential(values.reshape(-1, 7))
        stack = {WORLD: np.eye(4)} | dict(enumerate(poses))
        off = [
            np.linalg.inv(sim3.matrices([e.measured])[0]) @ np.linalg.inv(stack[e.i]) @ stack[e.j]
            for e in edges
        ]
        whole = sim3.logarithm(np.stack(off))
        return (whole / np.sqrt([e.covariance.diagonal() for e in edges])).ravel()

    start = sim3.logarithm(sim3.matrices(graph.poses.values())).ravel()
    best = least_squares(residuals, start, xtol=1e-12, ftol=1e-12, gtol=1e-12)
    found = sim3.matrices(graph.optimize(steps=50).values())
    mine = residuals(sim3.logarithm(found).ravel())
    assert np.square(mine).sum() == pytest.approx(2 * best.cost, rel=1e-8)
    np.testing.assert_allclose(found, sim3.exponential(best.x.reshape(-1, 7)), atol=1e-4)


def test_poses_that_cannot_be_measured_stay_finite_and_fixed_ones_where_they_are():
    truth = circle(6)
    graph = walk(truth[:3], Similarity.identity())
    for node in (3, 4, 5):
        graph.add_node(node, truth[node])
    graph.add_edge(3, 4, relative(truth, 3, 4), ERROR)
    found = graph.optimize(fixed={1})
    assert_same(found, dict(enumerate(truth)), 1e-9)
    assert PoseGraph().optimize() == {}


def test_a_removed_node_leaves_a_chain_that_still_holds():
    truth = circle(30)
    whole, thinned = walk(truth, drift(scale=0.995)), walk(truth, drift(scale=0.995))
    for node in range(1, 29):
        if node % 3:
            thinned.remove_node(node)
    assert len(thinned.edges) == len(thinned.poses) - 1
    before = error_of(thinned.poses, truth)
    for graph in (whole, thinned):
        graph.add_edge(29, 0, relative(truth, 29, 0), ERROR, loop=True)
    expected = {n: p for n, p in whole.optimize(fixed={0}).items() if n in thinned.poses}
    found = thinned.optimize(fixed={0})
    assert error_of(expected, truth) < 0.2 * before
    assert_same(found, expected, 0.01)


def test_a_node_passed_over_joins_what_came_after_to_the_surest_before():
    truth = circle(5)
    graph = PoseGraph()
    for node, pose in enumerate(truth):
        graph.add_node(node, pose)
    graph.add_edge(0, 2, relative(truth, 0, 2), PoseError(0.3, 0.3, 0.3))
    graph.add_edge(1, 2, relative(truth, 1, 2), ERROR)
    for node in (3, 4):
        graph.add_edge(2, node, relative(truth, 2, node), ERROR)
    graph.pass_over(2)
    assert sorted((edge.i, edge.j) for edge in graph.edges) == [(1, 3), (1, 4)]
    for edge in graph.edges:
        wanted = relative(truth, edge.i, edge.j)
        assert_same({0: edge.measured}, {0: wanted}, 1e-9)
    graph.pass_over(1)  # nothing came before: all that it tied stays together
    assert [{edge.i, edge.j} for edge in graph.edges] == [{3, 4}]


def test_removing_a_hub_keeps_its_neighbours_together_and_its_given_pose():
    truth = circle(5)
    graph = PoseGraph()
    for node, pose in enumerate(truth):
        graph.add_node(node, pose)
    for node in range(1, 5):
        graph.add_edge(0, node, relative(truth, 0, node), ERROR)
    graph.add_prior(0, truth[0], ERROR)
    graph.remove_node(0)
    assert len(graph.edges) == 4
    for node in range(1, 5):
        graph.set_pose(node, noisy(truth[node], ERROR, np.random.default_rng(node)))
    found = graph.optimize()
    assert_same(found, {node: truth[node] for node in range(1, 5)}, 1e-6)
    graph.remove_node(1)
    graph.remove_node(2)
    graph.remove_node(3)
    graph.remove_node(4)
    assert not graph.edges
    assert not graph.poses


def test_covariances_of_edges_that_are_composed_and_turned_are_those_of_samples():
    random = np.random.default_rng(0)
    first = drift((0.3, 0.1, -0.2), 1.5) @ Similarity(1.0, np.eye(3), np.ones(3))
    second, error = Similarity(0.7, np.eye(3), np.array([2.0, 0, 1])), PoseError(0.02, 0.01, 0.03)
    one = Edge(0, 1, first, ERROR.covariance(first))
    other = Edge(1, 2, second, error.covariance(second))

    def samples(edge: Edge) -> np.ndarray:
        tangents = random.normal(size=(20000, 7)) * np.sqrt(edge.covariance.diagonal())
        return sim3.matrices([edge.measured]) @ sim3.exponential(tangents)

    for edge, drawn in (
        (along([one, other]), samples(one) @ samples(other)),
        (one.reversed(), sim3.inverse(samples(one))),
    ):
        off = sim3.logarithm(sim3.inverse(sim3.matrices([edge.measured])) @ drawn)
        deviations = np.sqrt(edge.covariance.diagonal())
        allowed = 0.05 * deviations[:, None] * deviations
        assert (np.abs(np.cov(off.T) - edge.covariance) < allowed).all()


def test_an_edge_continued_by_many_is_the_way_along_each():
    random = np.random.default_rng(0)
    made = enumerate(noisy(drift(scale=1.2), PoseError(0.5, 0.5, 0.2), random) for _ in range(4))
    first, *rest = (Edge(min(n, 1), n + 1, p, ERROR.covariance(p), loop=n == 2) for n, p in made)
    for found, second in zip(continued(first, rest), rest, strict=True):
        wanted = along([first, second])
        assert (found.i, found.j, found.loop) == (wanted.i, wanted.j, wanted.loop)
        np.testing.assert_array_equal(found.covariance, wanted.covariance)
        assert_same({0: found.measured}, {0: wanted.measured}, 0.0)
    assert continued(first, []) == []


def test_a_part_that_hangs_on_nothing_stays_where_its_first_node_is():
    truth = circle(9)
    graph = PoseGraph()
    for node in (8, 6, 7, 0, 1, 2, 3, 4, 5):
        graph.add_node(node, truth[node] @ drift((0.0, 0.0, 0.01 * node)))
    for i, j in ((0, 1), (1, 2), (3, 4), (4, 5), (7, 6), (6, 8)):
        graph.add_edge(i, j, relative(truth, i, j), ERROR)
    graph.add_prior(4, truth[4], ERROR)
    begin, before = graph.later_fit(fixed={2}), graph.poses
    graph.remove_node(7)  # later than it
    fit = begin()
    fit.run(30)
    found = fit.found()
    assert found.keys() == {0, 1, 3, 4, 5, 6, 7}  # 2 is held, and 8 came first of its part
    moved = before[8] @ truth[8].inverse()
    assert_same({7: found[7]}, {7: moved @ truth[7]}, 1e-6)
    assert_same({n: found[n] for n in (3, 4, 5)}, {n: truth[n] for n in (3, 4, 5)}, 1e-6)


def test_turning_an_edge_round_twice_loses_nothing():
    pose = drift((0.3, 0.1, -0.2), 1.5)
    edge = Edge(0, 1, pose, ERROR.covariance(pose))
    again = edge.reversed().reversed()
    np.testing.assert_allclose(
        sim3.matrices([again.measured]), sim3.matrices([edge.measured]), atol=1e-12
    )
    np.testing.assert_allclose(again.covariance, edge.covariance, atol=1e-15)
    assert (again.i, again.j) == (0, 1)


def test_two_measurements_of_one_pose_become_their_mean():
    graph = PoseGraph()
    for node in (0, 1):
        graph.add_node(node, Similarity.identity())
    near, far = (Similarity(1.0, np.eye(3), np.array([x, 0, 0])) for x in (1.0, -4.0))
    graph.add_edge(0, 1, near, PoseError(0.1, 0.1, 1e-6))
    graph.add_edge(1, 0, far, PoseError(0.1, 0.2, 1e-6))
    (edge,) = graph.edges
    # Along x no turn sways the other, whose error is twice that of the first.
    assert edge.measured.translation[0] == pytest.approx(1 + 3 / 5)
    assert edge.covariance[0, 0] == pytest.approx(0.1**2 / 2)


def test_edges_are_bounded_and_the_least_certain_loop_goes_first():
    truth = circle(10)
    graph = walk(truth, Similarity.identity())
    graph.max_edges = 11
    for i, j, size in ((9, 0, 1.0), (8, 1, 3.0), (7, 2, 2.0)):
        error = PoseError(*(size * one for one in vars(ERROR).values()))
        assert graph.add_edge(i, j, relative(truth, i, j), error, loop=True)
    assert [(edge.i, edge.j) for edge in graph.edges if edge.loop] == [(9, 0), (7, 2)]
    graph.max_edges = 1
    graph.add_edge(5, 0, relative(truth, 5, 0), ERROR, loop=True)
    assert [(edge.i, edge.j) for edge in graph.edges] == [(i, i + 1) for i in range(9)]


def test_a_graph_goes_on_from_its_state():
    truth = circle(12)
    graph = walk(truth, drift(scale=0.99))
    graph.add_edge(11, 0, relative(truth, 11, 0), ERROR, loop=True)
    graph.add_prior(4, truth[4], ERROR)
    state = graph.state()
    again = PoseGraph.from_state(state)
    assert_same(again.optimize(), graph.optimize(), 1e-9)
    for name, array in again.state().items():
        np.testing.assert_allclose(array, state[name], atol=1e-12)
    assert not PoseGraph.from_state(PoseGraph().state()).poses


def test_mistakes_are_named():
    graph = PoseGraph()
    graph.add_node(0, Similarity.identity())
    with pytest.raises(ValueError, match="already there"):
        graph.add_node(0, Similarity.identity())
    with pytest.raises(KeyError, match="no node 3"):
        graph.add_edge(0, 3, Similarity.identity(), ERROR)
    with pytest.raises(ValueError, match="itself"):
        graph.add_edge(0, 0, Similarity.identity(), ERROR)
    with pytest.raises(ValueError, match="positive"):
        PoseError(0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="max_edges"):
        PoseGraph(0)


def test_a_fit_goes_on_from_its_state_to_the_last_bit_while_the_graph_grows():
    truth = circle(12)
    graph = walk(truth, drift(scale=0.97))
    graph.add_edge(11, 0, relative(truth, 11, 0), ERROR, loop=True)
    whole, parts = graph.fit(), graph.fit()
    whole.run(30)
    parts.run(2)
    graph.add_node(12, Similarity.identity())
    parts = GraphFit.from_state({name: array.copy() for name, array in parts.state().items()})
    while not parts.done:
        parts.run(1)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, parts.state()[name])
    assert parts.found().keys() == set(range(1, 12))
