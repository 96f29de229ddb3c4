"""The reference view: which one it is, and that an order leads back to where it started."""

import pytest
import torch

from ffsplat.nn.reference import balanced_view, order_from


def test_the_typical_view_is_chosen():
    angles = torch.tensor([0.0, 0.1, 0.6, 1.2, 0.9])
    lengths = torch.tensor([1.0, 3.0, 2.0, 1.0, 3.0])
    tokens = torch.zeros(1, 5, 8)
    tokens[0, :, 0], tokens[0, :, 1] = lengths * angles.cos(), lengths * angles.sin()
    chosen = int(balanced_view(tokens))
    scores = []
    units = tokens[0] / lengths[:, None]
    for view in range(5):
        likeness = [float(units[view] @ units[other]) for other in range(5) if other != view]
        mean = float(units[view].mean())
        variance = float(((units[view] - mean) ** 2).sum() / 7)
        scores.append((sum(likeness) / 4, float(lengths[view]), variance))
    columns = list(zip(*scores, strict=True))
    distances = [
        sum(
            abs((value - min(column)) / (max(column) - min(column) + 1e-8) - 0.5)
            for value, column in zip(score, columns, strict=True)
        )
        for score in scores
    ]
    assert chosen == distances.index(min(distances))


@pytest.mark.parametrize("reference", [0, 2, 3])
def test_the_reference_comes_first_and_the_way_back_is_the_inverse(reference):
    order, back = order_from(torch.tensor([reference]), 4)
    others = [view for view in range(4) if view != reference]
    assert order[0].tolist() == [reference, *others]
    assert order[0][back[0]].tolist() == [0, 1, 2, 3]
