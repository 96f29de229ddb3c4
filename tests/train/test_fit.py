"""The training run: it learns, it resumes exactly, it exports what it averaged."""

from dataclasses import replace

import pytest
import torch
from safetensors.numpy import save_file
from test_batches import make_pool

from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.errors import UsageError
from ffsplat.hub import load_checkpoint, save_checkpoint
from train.export import blend, export
from train.fit import build_module, build_network, class_weights, fit
from train.recipe import LOSS_WEIGHTS, Recipe, read_recipe
from train.rooms import RoomSettings

TINY = ModelConfig(
    width=24, heads=2, view_blocks=1, cross_blocks=2, match_block=2, decoder=(16, 12, 8),
    match_width=8, code_width=8, instance_width=4, registers=1,
)  # fmt: skip
RECIPE = Recipe(
    model=TINY, steps=6, images=8, view_counts=(2, 4), warmup=2, precision="32-true", decay=0.0
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    save_file(make_pool(), folder / "chunk_0000000000.safetensors")
    return folder


def average(folder) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def run(recipe, pool, out, **options) -> None:
    fit(recipe, pool=pool, validation=None, out=out, device="cpu", **options)


def test_resumed_run_equals_an_unbroken_one(tmp_path, pool):
    run(RECIPE, pool, tmp_path / "whole")
    run(replace(RECIPE, steps=3), pool, tmp_path / "broken")
    run(RECIPE, pool, tmp_path / "broken", resume=True)
    whole, broken = average(tmp_path / "whole"), average(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    for name, value in whole.items():
        torch.testing.assert_close(broken[name], value, atol=1e-6, rtol=1e-5)


def test_existing_run_is_not_overwritten(tmp_path, pool):
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(UsageError, match="already exists"):
        run(RECIPE, pool, tmp_path)


def test_twenty_steps_lower_the_loss(tmp_path, pool):
    recipe = replace(RECIPE, steps=20, view_counts=(2,), warmup=5, learning_rate=3e-3)
    losses = []
    import train.module as module

    original = module.TrainingModule.training_step

    def watch(self, batch, step):
        loss = original(self, batch, step)
        losses.append(loss.item())
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.TrainingModule, "training_step", watch)
        run(recipe, pool, tmp_path / "run")
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_export_loads_strictly(tmp_path, pool):
    run(replace(RECIPE, steps=2), pool, tmp_path / "run")
    export(tmp_path / "run", TINY, tmp_path / "out")
    network, _ = load_checkpoint(tmp_path / "out")
    state = average(tmp_path / "run")
    for name, value in network.state_dict().items():
        expected = state[f"average.{name}"]
        torch.testing.assert_close(value, expected, atol=1e-3, rtol=1e-3)
    run(replace(RECIPE, steps=1), pool, tmp_path / "next", initial=tmp_path / "out")
    wide = replace(RECIPE, model=replace(TINY, width=48))
    with pytest.raises(UsageError, match="the checkpoint has width 24"):
        run(wide, pool, tmp_path / "wide", initial=tmp_path / "out")


def test_blend_is_the_mean(tmp_path):
    networks = []
    for seed, name in enumerate("abc"):
        network = build_network(replace(RECIPE, seed=seed), None)
        save_checkpoint(tmp_path / name, network, lexicon_codebook(), "", dtype=torch.float32)
        networks.append(network.state_dict())
    blend([tmp_path / name for name in "abc"], tmp_path / "mean")
    mean, _ = load_checkpoint(tmp_path / "mean")
    for name, tensor in mean.state_dict().items():
        expected = torch.stack([state[name] for state in networks]).mean(0)
        torch.testing.assert_close(tensor, expected, atol=2e-3, rtol=1e-3)  # half precision
    wide = build_network(replace(RECIPE, model=replace(TINY, width=48)), None)
    save_checkpoint(tmp_path / "wide", wide, lexicon_codebook(), "")
    with pytest.raises(UsageError, match="the checkpoint has width 48, not 24"):
        blend([tmp_path / "a", tmp_path / "wide"], tmp_path / "no")


def test_rooms_are_made_while_it_trains(tmp_path):
    rooms = RoomSettings(size=16, views=2, first=2, fresh=1, kept=2, group=2)
    fit(replace(RECIPE, steps=2, rooms=rooms), out=tmp_path, device="cpu")
    assert average(tmp_path)


def test_the_learning_rate_ends_with_the_steps_or_with_the_time(monkeypatch, pool):
    network = build_network(RECIPE, None)
    module = build_module(replace(RECIPE, steps=100, decay=0.5), network, make_pool(), 10.0)
    rate = module.configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas[0]
    now = module.began
    monkeypatch.setattr("train.module.time.monotonic", lambda: now)
    assert rate(0) == 0.5  # half way through the warm-up
    assert [rate(step) for step in (10, 50, 75, 100)] == [1, 1, 0.5, 0]
    now += 7.5 * 60
    assert rate(10) == 0.5
    now += 2.5 * 60
    assert rate(10) == 0


def test_class_weights():
    import numpy as np

    # Frequencies 0.75, 0.25: weights go as 1 / sqrt, with a mean of 1 over pixels.
    weights = class_weights(np.array([0, 0, 0, 1]), 3)
    assert weights[1] / weights[0] == pytest.approx(3**0.5, rel=1e-5)
    assert 0.75 * weights[0] + 0.25 * weights[1] == pytest.approx(1, rel=1e-3)
    assert weights[2] / weights[0] == pytest.approx(30, rel=1e-3)


def test_recipes(tmp_path):
    from conftest import ROOT

    for path in sorted((ROOT / "train" / "recipes").glob("*.yaml")):
        assert read_recipe(path).model.name == "ffsplat-tiny"
    path = tmp_path / "bad.yaml"
    path.write_text("stepz: 3")
    with pytest.raises(UsageError, match="unknown keys: stepz"):
        read_recipe(path)
    path.write_text("losses: {dept: 1}")
    with pytest.raises(UsageError, match="unknown losses: dept"):
        read_recipe(path)
    path.write_text("losses: {depth: 2}")
    assert read_recipe(path).losses == LOSS_WEIGHTS | {"depth": 2}
