"""The plan of a run: repeatable from any step, with the right shares and positions."""

from collections import Counter

from train.plan import CHUNK, Plan


def plan(**changes) -> Plan:
    return Plan(**{"shares": (3, 1), "images": 24, "view_counts": (2, 3, 4), "seed": 7} | changes)


def test_a_step_does_not_depend_on_what_was_asked_before():
    straight = plan()
    steps = [straight[step] for step in range(40)]
    assert plan()[39] == steps[39]
    assert [plan()[CHUNK + 5]] == [plan()[CHUNK + 5]]
    assert plan(seed=8)[39] != steps[39]


def test_positions_count_the_sets_of_a_source_also_over_chunks():
    one = plan()
    seen = Counter()
    for step in range(CHUNK + 50):
        if step < 50 or step >= CHUNK - 5:
            draw = one[step]
            assert draw.position == seen[draw.source]
            assert draw.sets == 24 // draw.views
        else:
            draw = one[step] if step % 97 == 0 else None
        if draw is None:
            sources, _, sets = one._plan(0)
            seen[int(sources[step])] += int(sets[step])
        else:
            seen[draw.source] += draw.sets


def test_sources_and_views_come_by_their_shares():
    sources, views, _ = plan()._plan(0)
    assert abs((sources == 0).mean() - 0.75) < 0.03
    assert all(abs((views == count).mean() - 1 / 3) < 0.03 for count in (2, 3, 4))


def test_ranks_get_equal_numbers_of_sets():
    assert all(plan(ranks=5, images=4)[step].sets % 5 == 0 for step in range(20))
