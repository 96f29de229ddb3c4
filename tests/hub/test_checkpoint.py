import json
import re
import struct
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from ffsplat import hub
from ffsplat.codebook import lexicon_codebook
from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError, OutputError
from ffsplat.io.codebook_file import codebook_bytes
from ffsplat.model import FFSplat
from ffsplat.weights import read_weights

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
    "100 MB header": lambda content: struct.pack("<Q", (100 << 20) + 1) + content[8:],
    "long header": lambda content: struct.pack("<Q", len(content)) + content[8:],
    "no JSON": lambda content: content[:8] + b"#" + content[9:],
    "a list": lambda content: struct.pack("<Q", 2) + b"[]",
    "deep": lambda content: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "an entry that is no object": lambda content: struct.pack("<Q", 7) + b'{"a":3}',
    "truncated": lambda content: content[:-1],
    "trailing": lambda content: content + b"\0",
}


def of_two(first: str, second: str = "") -> bytes:
    """A file whose header is that of two tensors of four bytes, and that has eight bytes."""
    plain = '{"dtype":"F32","shape":[1],"data_offsets":[4,8]}'
    text = f'{{"a":{first},"b":{second or plain}}}'.encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


BAD_TABLES = {
    "overlap": '{"dtype":"F32","shape":[1],"data_offsets":[2,6]}',
    "hole": '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}',
    "shape and bytes differ": '{"dtype":"F32","shape":[3],"data_offsets":[0,4]}',
    "overflow": '{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}',
    "negative offsets": '{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}',
    "negative shape": '{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}',
    "unknown kind": '{"dtype":"F99","shape":[1],"data_offsets":[0,4]}',
    "offsets beyond the end": '{"dtype":"F32","shape":[1],"data_offsets":[0,4000000000]}',
}


@pytest.mark.parametrize("table", BAD_TABLES.values(), ids=BAD_TABLES.keys())
def test_tables_that_lie_are_refused(tmp_path, table):
    path = tmp_path / "model.safetensors"
    expected = {"a": torch.zeros(1), "b": torch.zeros(1)}
    good = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    path.write_bytes(of_two(good))
    assert read_weights(path, expected).keys() == expected.keys()
    path.write_bytes(of_two(table))
    if table == BAD_TABLES["hole"]:
        expected["a"] = torch.zeros(0)
    with pytest.raises(CheckpointError):
        read_weights(path, expected)


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
        assert "convert-weights" in caught.value.hint
    assert not marker.exists()


def test_a_codebook_must_fit_the_network(folder):
    (folder / "codebook.safetensors").unlink()
    assert hub.load_checkpoint(folder)[1].names == lexicon_codebook().names
    levels = lexicon_codebook().levels.copy()
    levels[0] = 1
    content = codebook_bytes(replace(lexicon_codebook(), levels=levels))
    (folder / "codebook.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="57 rows of level whole, the network has 58"):
        hub.load_checkpoint(folder)


DA3 = {"model_name": "da3-small", "config": {"net": {"out_layers": [5, 7, 9, 11]}}}


@pytest.fixture
def da3(tmp_path, network, monkeypatch):
    """A folder as Depth Anything 3 publishes them, and an importer that needs no such weights."""
    folder = tmp_path / "da3"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(DA3))
    (folder / "model.safetensors").write_bytes(b"the importer's business")
    without_meaning = FFSplat(replace(CONFIG, whole_rows=0, part_rows=0))
    monkeypatch.setattr("ffsplat.zoo.da3.load_da3", lambda _: without_meaning)
    return folder


def test_folders_of_depth_anything_3_go_to_its_importer(da3):
    network, codebook = hub.load_checkpoint(da3)
    assert (network.config.whole_rows, network.config.part_rows) == (0, 0)
    assert not network.training
    assert codebook.names == lexicon_codebook().names
    assert hub.resolve(str(da3)).license == "Apache-2.0"
    with pytest.raises(CheckpointError, match="unknown keys: config, model_name"):
        hub.read_config(da3)


def test_the_stricter_licence_of_authors_and_card_counts(da3):
    (da3 / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    assert hub.resolve(str(da3)).license == "cc-by-nc-4.0"
    (da3 / "README.md").write_text("---\nlicense: mit\n---\n")
    (da3 / "config.json").write_text(json.dumps(DA3 | {"model_name": "da3-giant"}))
    assert hub.resolve(str(da3)).license == "CC-BY-NC-4.0"
    (da3 / "config.json").write_text(json.dumps(DA3 | {"model_name": "da3-huge"}))
    assert hub.resolve(str(da3)).license == "mit"
