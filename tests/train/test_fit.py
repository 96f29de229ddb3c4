"""The training run: it learns, resumes exactly, shares its work, and exports what it averaged."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from safetensors.numpy import save_file
from toypool import make_clips, make_pool

from data.shards import write_shards
from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError, FFSplatError, UsageError
from ffsplat.hub import load_checkpoint, save_checkpoint
from train.cli import run
from train.export import blend, export
from train.module import Optimizer, TrainingModule, row_weights
from train.network import build_network
from train.terms import TERMS

TINY = {
    "width": 24, "heads": 2, "view_blocks": 1, "cross_blocks": 2, "match_block": 2,
    "decoder": [16, 12, 8], "match_width": 8, "code_width": 8, "instance_width": 4, "registers": 1,
}  # fmt: skip
CONFIG = ModelConfig(**{**TINY, "decoder": (16, 12, 8)})
DIRECT = dict.fromkeys(
    ("depth", "gradient", "error", "scale", "rotation", "translation", "focal", "whole", "part",
     "instance", "match", "token_match", "render"), 0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    save_file(make_pool(), folder / "chunk_0000000000.safetensors")
    return folder


@pytest.fixture(scope="module")
def recipe(pool) -> Path:
    """A recipe of six steps of eight images on the toy pool, without validation."""
    path = pool / "recipe.yaml"
    content = {
        "model": {"network": TINY, "losses": DIRECT, "schedule": {"warmup": 2, "decay": 0.0}},
        "data": {
            "sources": [{"pool": str(pool)}], "images": 8, "view_counts": [2, 4],
            "held_out": {"rooms": 2, "size": 16, "sets": 1},
        },
        "trainer": {
            "max_steps": 6, "precision": "32-true", "accelerator": "cpu", "devices": 1,
            "log_every_n_steps": 1, "limit_val_batches": 0,
        },
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


def fit(recipe: Path, out: Path, *options: str) -> None:
    run(["fit", "--config", str(recipe), "--out", str(out), *options])


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "last.ckpt", weights_only=True)["state_dict"]


def logged(out: Path, name: str) -> list[float]:
    """What a run logged under a name, over all its pieces."""
    values = []
    for path in sorted(out.glob("csv/version_*/metrics.csv")):
        with path.open() as file:
            values += [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
    return values


def start(recipe: Path, out: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "train", "fit", "--config", str(recipe), "--out", str(out)]
    return subprocess.Popen(
        [*command, *options], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.fixture(scope="module")
def unbroken(recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    fit(recipe, out)
    return out


def test_a_resumed_run_equals_an_unbroken_one(recipe, unbroken, tmp_path):
    fit(recipe, tmp_path, "--trainer.max_steps", "3")
    fit(recipe, tmp_path, "--ckpt_path", "last")
    first, second = weights(unbroken), weights(tmp_path)
    assert first.keys() == second.keys()
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert logged(tmp_path, "loss") == logged(unbroken, "loss")


@pytest.mark.slow
def test_shards_are_resumed_at_the_next_clip_by_any_number_of_readers(recipe, tmp_path):
    write_shards(make_clips(rooms=7, size=16), tmp_path / "shards", max_count=3)
    content = yaml.safe_load(recipe.read_text())
    content["data"]["sources"] = [{"shards": str(tmp_path / "shards"), "size": 16}]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    fit(path, tmp_path / "whole")
    fit(path, tmp_path / "broken", "--trainer.max_steps", "4", "--data.readers", "2")
    fit(path, tmp_path / "broken", "--ckpt_path", "last", "--data.readers", "1")
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(broken[name], value) for name, value in whole.items())
    assert logged(tmp_path / "broken", "loss") == logged(tmp_path / "whole", "loss")


@pytest.mark.slow
def test_a_run_that_was_told_to_end_goes_on_as_if_nothing_had_been(recipe, tmp_path):
    steps = ("--trainer.max_steps", "40")
    fit(recipe, tmp_path / "whole", *steps)
    process = start(recipe, tmp_path / "killed", *steps, "--ckpt_path", "last")
    while len(logged(tmp_path / "killed", "loss")) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    stopped = torch.load(tmp_path / "killed" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < stopped < 40
    fit(recipe, tmp_path / "killed", *steps, "--ckpt_path", "last")
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(killed[name], value) for name, value in whole.items())


def test_a_run_in_pieces_equals_an_unbroken_one(recipe, unbroken, tmp_path):
    for pause in (("--pause_after", "0"), ("--pause_after", "0"), ()):  # over after a step
        fit(recipe, tmp_path, *pause, "--ckpt_path", "last")
    first, second = weights(unbroken), weights(tmp_path)
    assert all(torch.equal(second[name], value) for name, value in first.items())


@pytest.mark.slow
def test_shards_of_weights_train_like_whole_ones(recipe, unbroken, tmp_path):
    sharded = str(ROOT / "train" / "recipes" / "fsdp.yaml")
    process = start(recipe, tmp_path, "--config", sharded, "--trainer.devices", "2",
                    "--trainer.strategy.init_args.data_parallel_size", "2")  # fmt: skip
    assert process.wait(180) == 0
    one, two = weights(unbroken), weights(tmp_path)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=3e-5, rtol=1e-3)


@pytest.mark.slow
def test_two_processes_do_what_one_does(recipe, unbroken, tmp_path):
    # Eight images are four sets of two views or two of four: both divide by two.
    process = start(recipe, tmp_path, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert process.wait(180) == 0
    one, two = weights(unbroken), weights(tmp_path)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=3e-5, rtol=1e-3)
    assert logged(tmp_path, "loss") == pytest.approx(logged(unbroken, "loss"), rel=1e-4)


@pytest.mark.parametrize("option", [("--model.optimizer.rate", "3"), ("--config", "nowhere.yaml")])
def test_a_mistake_in_a_recipe_is_told_in_a_line(recipe, tmp_path, option):
    with pytest.raises(UsageError):
        fit(recipe, tmp_path, *option)


def test_an_existing_run_is_not_overwritten(recipe, unbroken):
    with pytest.raises(UsageError, match="already exists"):
        fit(recipe, unbroken)


def test_twenty_steps_lower_the_loss(recipe, tmp_path):
    fit(recipe, tmp_path, "--trainer.max_steps", "20", "--data.view_counts", "[2]",
        "--model.optimizer.learning_rate", "3e-3")  # fmt: skip
    values = logged(tmp_path, "loss")
    assert len(values) == 20
    assert sum(values[-5:]) < 0.95 * sum(values[:5])


def test_a_rate_of_zero_ends_a_run_in_time(recipe, tmp_path):
    fit(recipe, tmp_path, "--trainer.max_steps", "100000", "--model.schedule.minutes", "0.02")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert 0 < state["global_step"] < 2000
    assert state["ffsplat"]["seconds"] >= 1.2


def test_steps_without_a_finite_gradient_are_left_out_and_counted():
    module = TrainingModule(CONFIG, {"depth": 1.0}, Optimizer(bad_steps=3))
    parameters = list(module.network.parameters())
    optimizer = torch.optim.AdamW(parameters, fused=True)

    def step(gradient: float) -> None:
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, gradient)
        module.configure_gradient_clipping(optimizer)
        optimizer.step()

    before = [p.clone() for p in parameters]
    for _ in range(2):
        step(torch.nan)
    assert module.bad_steps.tolist() == [2, 2, 2]
    assert all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    step(1.0)
    squares = sum(p.grad.square().sum() for p in parameters)
    assert squares.sqrt().item() == pytest.approx(1, rel=1e-4)
    assert not any(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    assert module.bad_steps.tolist() == [0, 2, 2]
    step(torch.inf)
    step(torch.inf)
    with pytest.raises(FFSplatError, match="not finite in 3 steps"):
        step(torch.inf)


def test_a_run_goes_on_after_a_step_that_is_not_finite(recipe, tmp_path, monkeypatch):
    depth = TERMS["depth"]
    monkeypatch.setitem(
        TERMS, "depth", lambda step: depth(step) * (torch.nan if step.number == 2 else 1)
    )
    fit(recipe, tmp_path)
    assert logged(tmp_path, "bad_steps") == [0, 0, 1, 1, 1, 1]
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (["depth", "dept"], "unknown losses: dept"),
        (["teacher_l1", "dictionary"], "lacks what dictionary, teacher_l1 needs"),
        (["render_perceptual"], "lacks what render_perceptual needs"),
        (["render_code"], "lacks what render_code needs"),
    ],
)
def test_losses_that_cannot_be_computed_are_refused(losses, message):
    with pytest.raises(UsageError, match=message):
        TrainingModule(CONFIG, dict.fromkeys(losses, 1.0))


def test_a_perceptual_loss_trains_and_stays_out_of_the_checkpoint(recipe, tmp_path):
    fit(recipe, tmp_path, "--trainer.max_steps", "2", "--data.view_counts", "[4]",
        "--model.losses", '{"render_perceptual": 1.0}',
        "--model.perceptual", '{"name": "test_resnet", "weights": "random"}')  # fmt: skip
    assert all(loss > 0 for loss in logged(tmp_path, "loss"))
    assert all(name.startswith(("network.", "average.")) for name in weights(tmp_path))


def test_validation_logs_metrics_and_draws(recipe, tmp_path):
    fit(recipe, tmp_path, "--trainer.max_steps", "2", "--trainer.limit_val_batches", "2",
        "--trainer.val_check_interval", "2")  # fmt: skip
    (error,), (overlap,) = logged(tmp_path, "abs_rel"), logged(tmp_path, "miou_whole")
    assert 0 < error < 2
    assert 0 <= overlap <= 1
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["step-00000002.png"]


def test_export_loads_strictly_and_starts_the_next_run(recipe, unbroken, tmp_path):
    run(
        [
            "export",
            "--config",
            str(recipe),
            "--out",
            str(unbroken),
            "--folder",
            str(tmp_path / "out"),
        ]
    )
    network, _ = load_checkpoint(tmp_path / "out")
    state = weights(unbroken)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, state[f"average.{name}"], atol=1e-3, rtol=1e-3)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "6 steps in" in card
    assert "max_steps: 6" in card
    begun = build_network(CONFIG, tmp_path / "out", 0).state_dict()
    torch.testing.assert_close(begun, network.state_dict())
    wide = ModelConfig(**vars(CONFIG) | {"width": 48})
    with pytest.raises(UsageError, match="the checkpoint has width 24"):
        build_network(wide, tmp_path / "out", 0)


def test_export_of_what_is_no_run_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="is not a checkpoint of"):
        export(tmp_path / "last.ckpt", tmp_path / "out")


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"PK\x03\x04 cut off", b"cos\nsystem\n."]
)
def test_a_damaged_file_is_refused(recipe, tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        export(tmp_path / "last.ckpt", tmp_path / "out")
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        fit(recipe, tmp_path, "--ckpt_path", "last")


def test_a_truncated_checkpoint_is_refused(recipe, unbroken, tmp_path):
    whole = (unbroken / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        fit(recipe, tmp_path, "--ckpt_path", "last")
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="is not a checkpoint of"):
        fit(recipe, tmp_path, "--ckpt_path", "last")


def test_blend_is_the_mean(tmp_path):
    networks = []
    for seed, name in enumerate("abc"):
        network = build_network(CONFIG, None, seed)
        save_checkpoint(tmp_path / name, network, lexicon_codebook(), "", dtype=torch.float32)
        networks.append(network.state_dict())
    blend([tmp_path / name for name in "abc"], tmp_path / "mean")
    mean, _ = load_checkpoint(tmp_path / "mean")
    for name, tensor in mean.state_dict().items():
        expected = torch.stack([state[name] for state in networks]).mean(0)
        torch.testing.assert_close(tensor, expected, atol=2e-3, rtol=1e-3)  # half precision
    wide = build_network(ModelConfig(**vars(CONFIG) | {"width": 48}), None, 0)
    save_checkpoint(tmp_path / "wide", wide, lexicon_codebook(), "")
    with pytest.raises(UsageError, match="the checkpoint has width 48, not 24"):
        blend([tmp_path / "a", tmp_path / "wide"], tmp_path / "no")


def test_row_weights():
    # Frequencies 0.75, 0.25: weights go as 1 / sqrt, with a mean of 1 over pixels.
    weights = row_weights(torch.tensor([0.75, 0.25, 0]), 0.5)
    assert weights[1] / weights[0] == pytest.approx(3**0.5, rel=1e-5)
    assert 0.75 * weights[0] + 0.25 * weights[1] == pytest.approx(1, rel=1e-3)
    assert weights[2] / weights[0] == pytest.approx(30, rel=1e-3)
    assert row_weights(torch.tensor([0.75, 0.25]), 0).tolist() == [1, 1]


def test_the_config_that_a_run_keeps_exports_and_measures_it(unbroken, tmp_path):
    kept = str(unbroken / "config.yaml")
    run(["export", "--config", kept, "--out", str(unbroken), "--folder", str(tmp_path / "out")])
    load_checkpoint(tmp_path / "out")
    run(["validate", "--config", kept, "--out", str(unbroken)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_run_of_another_machine_is_exported_and_not_trained(recipe, unbroken, tmp_path):
    run(["export", "--config", str(recipe), "--trainer.accelerator", "gpu",
         "--out", str(unbroken), "--folder", str(tmp_path / "out")])  # fmt: skip
    load_checkpoint(tmp_path / "out")
    with pytest.raises(UsageError, match="gpu"):
        fit(recipe, tmp_path, "--trainer.accelerator", "gpu")
