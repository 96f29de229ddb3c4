"""`ffsplat convert-weights`: its summary, and what it refuses."""

import json

import pytest
import safetensors.torch
import torch
from command import run


@pytest.fixture
def source(tmp_path):
    tensors = {"net.a": torch.ones(2, 3), "net.b": torch.zeros(4), "other": torch.ones(1)}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_summary(source, tmp_path):
    out = tmp_path / "out"
    outcome = run("convert-weights", source, "--out", out, "--prefix", "net.")
    assert outcome.code == 0
    assert outcome.err == "warning: left out: epoch\n"
    rows = dict(line.split(None, 1) for line in outcome.out.splitlines())
    assert rows["written"] == str(out / "model.safetensors")
    assert rows["tensors"] == "2, 0.0 M numbers"
    assert len(rows["sha256"]) == 64
    assert sorted(safetensors.torch.load_file(out / "model.safetensors")) == ["a", "b"]
    again = run("convert-weights", source, "--out", out, "--json", "--overwrite")
    facts = json.loads(again.out)
    assert (facts["tensors"], facts["parameters"], facts["left_out"]) == (3, 11, ["epoch"])


def test_refusals(source, tmp_path):
    out = tmp_path / "out"
    assert run("convert-weights", source, "--out", out, "--quiet").out == ""
    outcome = run("convert-weights", source, "--out", out)
    assert outcome.code == 5
    assert "already exists" in outcome.err
    outcome = run("convert-weights", tmp_path / "absent.pth", "--out", tmp_path / "new")
    assert outcome.code == 1
    assert outcome.err.startswith("error: cannot read ")
    torch.save({"a": torch.nn.Linear(1, 1)}, source)
    outcome = run("convert-weights", source, "--out", tmp_path / "new")
    assert outcome.code == 1
    assert "it asks for torch.nn.modules.linear.Linear, which is no tensor" in outcome.err
    assert "hint: save only the state_dict where it was trained" in outcome.err
    assert not (tmp_path / "new").exists()
