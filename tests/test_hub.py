import json
import logging
import re
import shutil
import struct
import threading
from dataclasses import replace

import huggingface_hub.constants
import numpy as np
import pytest
import safetensors.torch
import torch
from fake_hub import COMMIT, FakeHub

from ffsplat import hub
from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError, OutputError, UsageError, WeightsMissing
from ffsplat.model import FFSplat

CONFIG = ModelConfig(
    name="tiny", width=16, heads=1, view_blocks=1, cross_blocks=2, match_block=2, registers=1,
    decoder=(8, 8, 8), match_width=8, code_width=8, license="CC0-1.0",
)  # fmt: skip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return FFSplat(CONFIG)


@pytest.fixture
def folder(network, tmp_path):
    folder = tmp_path / "model"
    hub.save_checkpoint(folder, network, lexicon_codebook(), "# A model\n")
    return folder


def weights(folder, change=None):
    """Load, change and write back the raw tensors of a checkpoint."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    if change:
        change(tensors)
        safetensors.torch.save_file(tensors, path)
    return tensors


def header(folder, change):
    """Rewrite the header of a checkpoint's weights as text."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    text = change(content[8 : 8 + length])
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_a_checkpoint_comes_back(folder, network):
    assert sorted(path.name for path in folder.iterdir()) == sorted(hub.FILES)
    assert {tensor.dtype for tensor in weights(folder).values()} == {torch.float16}
    loaded, codebook = hub.load_checkpoint(folder)
    assert loaded.config == CONFIG
    assert not loaded.training
    for name, parameter in network.state_dict().items():
        ours = loaded.state_dict()[name]
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, parameter.half().float(), rtol=0, atol=0)
    assert codebook.names == lexicon_codebook().names
    assert (folder / "README.md").read_text() == "# A model\n"
    images = torch.rand(1, 2, 3, 16, 24)
    assert loaded(images).depth.isfinite().all()


def test_loading_leaves_the_random_state_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    hub.load_checkpoint(folder)
    assert torch.rand(1) == expected


def test_saving_is_repeatable_and_overwrites_only_when_told(folder, network):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match="already exists"):
        hub.save_checkpoint(folder, network, lexicon_codebook(), "other")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    hub.save_checkpoint(folder, network, lexicon_codebook(), "# A model\n", overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    hub.save_checkpoint(
        folder, network, lexicon_codebook(), "", dtype=torch.float32, overwrite=True
    )
    loaded, _ = hub.load_checkpoint(folder)
    for name, parameter in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], parameter)


def test_weights_that_overflow_halves_are_not_saved(network, tmp_path):
    huge = FFSplat(CONFIG)
    with torch.no_grad():
        huge.role.fill_(1e6)
    with pytest.raises(CheckpointError, match=r"not finite in torch.float16: role"):
        hub.save_checkpoint(tmp_path / "huge", huge, lexicon_codebook(), "")
    assert not (tmp_path / "huge").exists()


def test_tensors_that_do_not_fit_are_listed(folder):
    def change(tensors):
        del tensors["role"]
        tensors["old.w"] = torch.zeros(1, dtype=torch.float16)
        tensors["../../x"] = torch.zeros(1, dtype=torch.float16)
        tensors["special"] = tensors["special"][:1]

    weights(folder, change)
    message = re.escape(
        "model.safetensors does not fit this architecture: 1 missing (role), "
        "2 unexpected (../../x, old.w), 1 shape mismatches (special)"
    )
    with pytest.raises(CheckpointError, match=message):
        hub.load_checkpoint(folder)


def test_integers_and_values_that_are_not_finite_are_refused(folder):
    weights(folder, lambda tensors: tensors["role"].fill_(torch.nan))
    with pytest.raises(CheckpointError, match=r"values that are not finite: role"):
        hub.load_checkpoint(folder)
    weights(folder, lambda t: t.update(role=torch.zeros(t["role"].shape, dtype=torch.int16)))
    with pytest.raises(CheckpointError, match=r"tensors that are no floats: role"):
        hub.load_checkpoint(folder)


BAD_HEADERS = {
    "empty": lambda content: b"",
    "short": lambda content: content[:7],
    "2^62 header": lambda content: struct.pack("<Q", 2**62) + content[8:],
    "long header": lambda content: struct.pack("<Q", len(content)) + content[8:],
    "no JSON": lambda content: content[:8] + b"#" + content[9:],
    "a list": lambda content: struct.pack("<Q", 2) + b"[]",
    "deep": lambda content: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "an entry that is no object": lambda content: struct.pack("<Q", 7) + b'{"a":3}',
    "truncated": lambda content: content[:-1],
    "trailing": lambda content: content + b"\0",
}


@pytest.mark.parametrize("damage", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_damaged_weights_are_refused(folder, damage):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError):
        hub.load_checkpoint(folder)


def test_a_tensor_that_stands_twice_is_refused(folder):
    entry = b'"role":{"dtype":"F16","shape":[2,1,16],"data_offsets":[0,64]},'
    header(folder, lambda text: b"{" + entry + text[1:])
    with pytest.raises(CheckpointError, match="a name stands twice"):
        hub.load_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"widht": 64}', "unknown keys: widht"),
        ('{"format": 99}', "format 99"),
        ('{"width": "wide"}', "width cannot be"),
        (" " * (2**20 + 1), "larger than"),
        (json.dumps({"view_blocks": 60000}), "more blocks than"),
        (json.dumps({"width": 60000, "heads": 1, "view_blocks": 1}), "does not fit"),
    ],
)
def test_a_config_that_is_wrong_is_refused(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        hub.load_checkpoint(folder)


def test_a_config_that_is_no_text_is_refused(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="not UTF-8"):
        hub.load_checkpoint(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt"])
def test_pickles_are_refused_and_never_opened(folder, tmp_path, name):
    (folder / "model.safetensors").unlink()
    marker = tmp_path / "marker"
    # A pickle that makes the marker when it is loaded.
    (folder / name).write_bytes(b"cos\nmkdir\n(V" + str(marker).encode() + b"\ntR.")
    for attempt in (
        lambda: hub.load_checkpoint(folder),
        lambda: hub.resolve(str(folder)),
        lambda: hub.resolve(str(folder / name)),
    ):
        with pytest.raises(CheckpointError, match="is a pickle") as caught:
            attempt()
        assert "model.safetensors" in caught.value.hint
    assert not marker.exists()


def test_a_codebook_must_fit_the_network(folder):
    (folder / "codebook.safetensors").unlink()
    assert hub.load_checkpoint(folder)[1].names == lexicon_codebook().names
    levels = lexicon_codebook().levels.copy()
    levels[0] = 1
    content = hub.codebook_bytes(replace(lexicon_codebook(), levels=levels))
    (folder / "codebook.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="57 rows of level whole, the network has 58"):
        hub.load_checkpoint(folder)


def test_resolve_a_folder(folder, tmp_path, monkeypatch):
    found = hub.resolve(str(folder))
    assert (found.path, found.name, found.license) == (folder, "model", "CC0-1.0")
    assert re.fullmatch("sha256:[0-9a-f]{16}", found.revision)
    weights(folder, lambda tensors: tensors["role"].zero_())
    assert hub.resolve(str(folder)).revision != found.revision
    monkeypatch.chdir(tmp_path)
    assert hub.resolve("model").path.samefile(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.resolve("~/model").path.samefile(folder)
    with pytest.raises(UsageError, match="no revisions"):
        hub.resolve(str(folder), revision="main")


def test_resolve_what_is_not_there(folder, tmp_path):
    for name in (str(tmp_path / "absent"), "./absent", ".", str(folder / "README.md")):
        with pytest.raises(WeightsMissing, match=r"has no config.json") as caught:
            hub.resolve(name)
        assert "config.json, model.safetensors" in caught.value.hint
    with pytest.raises(CheckpointError, match="File name too long"):
        hub.resolve("/" + "x" * 5000)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"has no model.safetensors") as caught:
        hub.resolve(str(folder))
    assert caught.value.exit_code == 6
    for name in (
        "nonsense",
        "a/b/c",
        "a/../b",
        "-x/y",
        "org/name\n",
        "org/na me",
        "",
        "x" * 5000,
        "a\0b",
    ):
        with pytest.raises(UsageError, match="there is no model"):
            hub.resolve(name)
    with pytest.raises(UsageError, match="two revisions"):
        hub.resolve("org/name@a", revision="b")


def test_the_bundled_model_is_found_in_a_checkout_and_in_a_wheel(folder, tmp_path, monkeypatch):
    package = tmp_path / "site" / "ffsplat"
    package.mkdir(parents=True)
    monkeypatch.setattr(hub, "__file__", str(package / "hub.py"))
    with pytest.raises(WeightsMissing, match="not in this installation"):
        hub.resolve("ffsplat-tiny")
    for root in (tmp_path / "site", package):
        place = root / "checkpoints" / "ffsplat-tiny"
        shutil.copytree(folder, place)
        found = hub.resolve("ffsplat-tiny")
        assert (found.path, found.name) == (place, "ffsplat-tiny")


def test_auto_is_the_bundled_model_with_one_line_of_notice(folder, monkeypatch, caplog):
    monkeypatch.setattr(hub, "_bundled", lambda name: folder)
    with caplog.at_level(logging.INFO):
        assert hub.resolve("auto").path == folder
    assert [record.message for record in caplog.records] == [
        "model ffsplat-tiny comes with the package; --model chooses another"
    ]


@pytest.fixture
def fake_hub(folder, tmp_path, monkeypatch):
    (folder / "pytorch_model.bin").write_bytes(b"not to be downloaded")
    server = FakeHub(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    constants = huggingface_hub.constants
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    yield server
    server.ended.set()
    server.shutdown()
    server.server_close()


def test_download_then_work_without_the_network(fake_hub, caplog):
    found = hub.resolve("org/m")
    assert (found.name, found.revision, found.license) == ("org/m", COMMIT, "CC0-1.0")
    assert sorted(path.name for path in found.path.iterdir()) == sorted(hub.FILES)
    assert not any(".bin" in request for request in fake_hub.requests)
    hub.load_checkpoint(found.path)

    fake_hub.requests.clear()
    assert hub.resolve("org/m", offline=True) == found
    assert hub.resolve(f"org/m@{COMMIT}") == found
    assert fake_hub.requests == []

    fake_hub.silent.set()
    assert hub.resolve("org/m") == found
    assert "the hub cannot be reached; using org/m from the local cache" in caplog.text


def test_offline_and_not_cached(fake_hub, monkeypatch):
    for name in ("org/m", f"org/m@{COMMIT}"):
        with pytest.raises(WeightsMissing, match="not in the local cache and --offline is set"):
            hub.resolve(name, offline=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsMissing, match="--offline is set"):
        hub.resolve("org/m")
    assert fake_hub.requests == []


def test_a_dead_network_ends_in_one_clear_error(fake_hub, monkeypatch):
    fake_hub.silent.set()
    with pytest.raises(WeightsMissing, match="the hub cannot be reached"):
        hub.resolve("org/m")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsMissing, match="the hub cannot be reached"):
        hub.resolve("org/m")


def test_a_model_or_revision_that_the_hub_does_not_have(fake_hub):
    with pytest.raises(WeightsMissing, match="there is no model org/other on the hub"):
        hub.resolve("org/other")
    with pytest.raises(WeightsMissing, match="org/m has no revision v9"):
        hub.resolve("org/m@v9")


def test_a_half_written_cache_is_completed(fake_hub, tmp_path):
    found = hub.resolve("org/m")
    (found.path / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing, match="--offline is set"):
        hub.resolve(f"org/m@{COMMIT}", offline=True)
    assert hub.resolve(f"org/m@{COMMIT}") == found
    network, _ = hub.load_checkpoint(found.path)
    assert np.isfinite(network.role.detach().numpy()).all()
