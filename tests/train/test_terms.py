"""Terms: what the truth costs, what gradients reach, and hand values where the loss has none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toypool import make_pool

from data.clip import UNKNOWN
from ffsplat.config import ModelConfig
from ffsplat.model import FFSplat
from ffsplat.prediction import Prediction
from train import losses
from train.batches import Batch, batch_from_pool
from train.losses import FeatureNetwork
from train.terms import TERMS, Step, direct

CONFIG = ModelConfig(
    width=24, heads=2, view_blocks=1, cross_blocks=2, match_block=2, decoder=(16, 12, 8),
    match_width=8, code_width=8, whole_rows=6, part_rows=8, instance_width=4, registers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def batch() -> Batch:
    pool = make_pool(scenes=2, views=3, size=32)
    drawn = batch_from_pool(pool, np.array([0, 1]), np.array([[0, 1, 2], [2, 0, 1]]))
    random = torch.Generator().manual_seed(0)
    return replace(drawn, teachers={"clip": torch.randn(2, 3, 5, 4, 4, generator=random)})


@pytest.fixture(scope="module")
def network() -> FFSplat:
    torch.manual_seed(0)
    return FFSplat(CONFIG)


def make_step(prediction: Prediction, batch: Batch) -> Step:
    """All but the last view are given, the last one is kept back."""
    given, target = batch.views(slice(0, -1)), batch.views(slice(-1, None))
    random = torch.Generator().manual_seed(1)
    rows = torch.randn(6, 5, generator=random).requires_grad_()
    return Step(
        prediction, given, 0, target=target, features=FeatureNetwork("test_vit", "random"),
        dictionary=rows, teacher="clip",
    )  # fmt: skip


def true_prediction(prediction: Prediction, batch: Batch) -> Prediction:
    """A prediction whose geometry and codes are the truth of all but the last view."""
    given = batch.views(slice(0, -1))
    scale = given.depth.mean((1, 2, 3))
    hot = 50.0 * torch.nn.functional.one_hot(given.whole, 6)
    return replace(
        prediction, depth=given.depth, scale=scale, world_from_camera=given.world_from_camera,
        intrinsics=given.intrinsics, whole_logits=hot,
        part_logits=50.0 * torch.nn.functional.one_hot(given.part, 8),
    )  # fmt: skip


GEOMETRY = (
    "depth", "gradient", "scale_invariant", "normal", "point", "ray", "rotation", "angle",
    "translation", "direction", "focal", "field_of_view", "whole", "part", "scale",
)  # fmt: skip


@pytest.mark.parametrize("name", GEOMETRY)
def test_truth_costs_nothing_and_a_guess_does(network, batch, name):
    prediction = network(batch.images[:, :-1])
    truth = TERMS[name](make_step(true_prediction(prediction, batch), batch))
    assert truth.item() == pytest.approx(0, abs=2e-3)
    assert TERMS[name](make_step(prediction, batch)).item() > 0.01


@pytest.mark.parametrize("name", sorted(TERMS))
def test_every_term_is_finite_and_teaches_something(network, batch, name):
    network.zero_grad()
    step = make_step(network(batch.images[:, :-1]), batch)
    value = TERMS[name](step)
    assert value.shape == ()
    assert value.isfinite()
    value.backward()
    gradients = [p.grad for p in [*network.parameters(), step.dictionary] if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


def test_what_is_unknown_costs_nothing(network, batch):
    blank = replace(
        batch,
        depth=torch.zeros_like(batch.depth),
        whole=torch.full_like(batch.whole, UNKNOWN),
        part=torch.full_like(batch.part, UNKNOWN),
        identity=torch.full_like(batch.identity, UNKNOWN),
    )
    step = make_step(network(batch.images[:, :-1]), blank)
    for name in ("depth", "gradient", "error", "scale", "translation", "whole", "part", "instance",
                 "match", "token_match", "normal", "point", "render", "render_mse", "render_ssim",
                 "render_depth", "render_code", "scale_invariant", "prototype", "separation",
                 "object_agreement", "view_agreement"):  # fmt: skip
        assert TERMS[name](step).item() == pytest.approx(0, abs=1e-6), name
    assert TERMS["rotation"](step) > 0


def test_units_do_not_matter(network, batch):
    prediction = network(batch.images[:, :-1])
    poses = batch.world_from_camera.clone()
    poses[..., :3, 3] *= 7
    far = replace(batch, depth=7 * batch.depth, world_from_camera=poses, metric=~batch.metric)
    near, other = make_step(prediction, batch), make_step(prediction, far)
    for name in ("depth", "translation", "point", "direction", "render", "distortion", "match"):
        torch.testing.assert_close(TERMS[name](near), TERMS[name](other), atol=1e-4, rtol=1e-3)
    assert TERMS["scale"](near) > 0
    assert TERMS["scale"](other) == 0


@pytest.mark.parametrize(("most", "cells"), [(10**6, 64), (90, 15)])
def test_many_views_share_the_matches_of_a_set(network, batch, monkeypatch, most, cells):
    """Three views make six pairs; each has 64 cells, or as many as all may have together."""
    asked = []
    true = losses.match_loss
    monkeypatch.setattr(direct, "SAMPLED_MATCHES", most)
    monkeypatch.setattr(losses, "match_loss", lambda *a: asked.append(a) or true(*a))
    TERMS["match"](Step(network(batch.images), batch, 0))
    (_, places, _, source, _, _, which), = asked  # fmt: skip
    assert (len(source), len(which)) == (6, cells)
    assert places.shape[1:3] == (6, cells)


def test_steps_without_an_unseen_view_render_nothing(network, batch):
    step = Step(network(batch.images), batch, 0)
    assert all(TERMS[name](step) == 0 for name in TERMS if name.startswith("render"))


def test_a_code_of_the_right_rows_pleases_the_teacher(network, batch):
    """Every cell of the teacher is a row, and the codes choose it."""
    prediction = network(batch.images[:, :-1])
    rows = torch.nn.functional.normalize(torch.randn(6, 5), dim=-1)
    labels = torch.randint(6, (2, 2, 4, 4))
    given = batch.views(slice(0, -1))
    taught = replace(given, teachers={"clip": 3 * rows[labels].movedim(-1, 2)})
    fine = labels.repeat_interleave(8, -1).repeat_interleave(8, -2)
    hot = 50.0 * torch.nn.functional.one_hot(fine, 6)
    right = replace(prediction, whole_logits=hot)
    step = Step(right, taught, 0, dictionary=rows, teacher="clip")
    for name in ("teacher_cosine", "teacher_l1", "teacher_code", "dictionary"):
        assert TERMS[name](step).item() == pytest.approx(0, abs=1e-4), name
        wrong = Step(replace(right, whole_logits=hot.roll(1, -1)), taught, 0, dictionary=rows,
                     teacher="clip")  # fmt: skip
        if name != "dictionary":
            assert TERMS[name](wrong) > 0.1
