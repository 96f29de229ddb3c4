"""Foreign checkpoints: what is converted exactly, and what is refused before it can do harm."""

import collections
import hashlib
import os
import re
import struct
import subprocess
import sys
import zipfile

import pytest
import safetensors
import safetensors.torch
import torch

from ffsplat.errors import CheckpointError, OutputError, UsageError
from ffsplat.weights import convert_weights


def network():
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Conv2d(4, 2, 3)
    return torch.nn.Sequential(*layers)


@pytest.fixture
def source(tmp_path):
    return tmp_path / "model.pth"


def convert(source, **options):
    done = convert_weights(source, source.parent / "out", overwrite=True, **options)
    assert hashlib.sha256(done.path.read_bytes()).hexdigest() == done.sha256
    assert done.path.stat().st_size == done.bytes
    return done, safetensors.torch.load_file(done.path)


def test_every_tensor_comes_through_exactly(source):
    tensors = network().state_dict() | {
        "half": torch.tensor([1.5, -2], dtype=torch.float16),
        "brain": torch.tensor([[1.0, 3.0]], dtype=torch.bfloat16),
        "double": torch.tensor(3.25, dtype=torch.float64),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "turned": torch.arange(6.0).reshape(2, 3).t(),
        "slice": torch.arange(10.0)[2:5],
        "none": torch.zeros(0, 3),
        "../../x": torch.ones(1),
    }
    torch.save(tensors, source)
    done, found = convert(source)
    assert done.tensors == len(tensors) == len(found)
    assert done.parameters == sum(tensor.numel() for tensor in tensors.values())
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
    assert sorted(path.name for path in source.parent.iterdir()) == ["model.pth", "out"]
    with safetensors.safe_open(done.path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_checkpoint_of_a_trainer_gives_its_table(source):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    model[:2](torch.ones(2, 3)).sum().backward()
    optimizer.step()
    whole = {"epoch": 3, "optimizer": optimizer.state_dict(), "rate": 0.1, "name": "x"}
    for key in ("state_dict", "model"):
        torch.save({**whole, key: model.state_dict()}, source)
        done, found = convert(source)
        assert found.keys() == model.state_dict().keys()
        assert done.left_out == ("epoch", "name", "optimizer", "rate")


def test_a_prefix_chooses_and_is_cut_off(source):
    torch.save({f"net.{k}": v for k, v in network().state_dict().items()} | {"x": torch.ones(1)},
               source)  # fmt: skip
    _, found = convert(source, prefix="net.")
    assert found.keys() == network().state_dict().keys()
    with pytest.raises(UsageError, match=r"no tensor begins with model\.") as caught:
        convert(source, prefix="model.")
    assert caught.value.hint == "they begin with net., x."


def test_tied_weights_and_parameters(source):
    weight = torch.nn.Parameter(torch.rand(4, 4))
    torch.save({"a": weight, "b": weight}, source)
    _, found = convert(source)
    assert torch.equal(found["a"], weight)
    assert torch.equal(found["b"], weight)


def test_an_existing_file_stays_unless_told_otherwise(source):
    torch.save(network().state_dict(), source)
    convert_weights(source, source.parent / "out")
    with pytest.raises(OutputError, match="already exists"):
        convert_weights(source, source.parent / "out")
    convert_weights(source, source.parent / "out", overwrite=True)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_program_is_refused_by_name_and_never_run(source, tmp_path):
    marker = tmp_path / "marker"
    for content in (Evil(marker), {"state_dict": {"a": torch.ones(1)}, "extra": Evil(marker)}):
        for protocol in (2, 4):
            torch.save(content, source, pickle_protocol=protocol)
            with pytest.raises(CheckpointError, match="is refused: ") as caught:
                convert(source)
            assert protocol == 4 or "posix.mkdir" in str(caught.value)
    for content in (
        {"a": collections.Counter()},
        {"a": bytearray(10)},
        {"a": network()},
        {"hyper_parameters": collections.defaultdict(int), "state_dict": {"a": torch.ones(1)}},
    ):
        torch.save(content, source)
        with pytest.raises(CheckpointError, match="is refused: it asks for"):
            convert(source)
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def test_what_is_more_than_tensors_is_named(source):
    torch.save({"a": torch.ones(1), "epoch": 3, 5: torch.ones(1)}, source)
    with pytest.raises(CheckpointError, match=r"more than tensors: epoch \(int\), 5 \(Tensor\)"):
        convert(source)
    for content in (torch.ones(3), [torch.ones(1)], {}, {"state_dict": {}}, 3):
        torch.save(content, source)
        with pytest.raises(CheckpointError, match="not a table of tensors"):
            convert(source)
    torch.save({"a": torch.ones(2, dtype=torch.complex64)}, source)
    with pytest.raises(CheckpointError, match=r"it asks for torch\.ComplexFloatStorage"):
        convert(source)


def rewrite(source, **changes):
    """The same archive with other entries: bytes replace one, None drops it."""
    with zipfile.ZipFile(source) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    names = {name.partition("/")[2]: name for name in entries}
    for name, content in changes.items():
        entries[names.get(name, f"model/{name}")] = content
    write(source, entries)


def write(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            if content is not None:
                archive.writestr(name, content)


def claim(source, shape, stride):
    """A tensor of one number that claims a shape."""
    torch.save({"a": torch.ones(1)}, source)
    with zipfile.ZipFile(source) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        content = archive.read(name)

    def number(value):
        return b"\x8a\x08" + value.to_bytes(8, "little")

    # Storage offset 0, then the tuples of size (1,) and stride (1,), each put into the memo.
    plain = rb"K\x00K\x01\x85(q.)K\x01\x85(q.)"
    found = re.search(plain, content, re.DOTALL)
    assert found
    forged = b"K\0" + number(shape) + b"\x85" + found[1] + number(stride) + b"\x85" + found[2]
    content = content.replace(found[0], forged)
    rewrite(source, **{"data.pkl": content})


@pytest.mark.parametrize(("shape", "stride"), [(10**12, 0), (10**12, 1), (2**62, 2**62), (2, 1)])
def test_a_tensor_that_claims_more_than_it_has_is_refused(source, shape, stride):
    claim(source, 1, 1)
    convert(source)
    claim(source, shape, stride)
    with pytest.raises(CheckpointError):
        convert(source)


def test_expansion_costs_no_memory(tmp_path):
    """Every bomb in a process of its own, whose memory may grow by 100 MB at most."""
    bomb = tmp_path / "bomb.pth"
    claim(bomb, 10**12, 0)
    zeros = tmp_path / "zeros.pth"
    write(zeros, {"model/data.pkl": b"\0" * (200 << 20)}, zipfile.ZIP_DEFLATED)
    script = (
        "import sys, resource\n"
        "from pathlib import Path\n"
        "from ffsplat.weights import convert_weights\n"
        "from ffsplat.errors import CheckpointError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        convert_weights(Path(name), Path(name).parent / 'out')\n"
        "    except CheckpointError as error:\n"
        "        print('refused')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(bomb), str(zeros)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *refused, grown = done.stdout.split()
    assert refused == ["refused", "refused"]
    assert int(grown) < 100 << 10  # kilobytes


def forged_size(source):
    """Let the directory say that its last entry has a gigabyte."""
    content = source.read_bytes()
    at = content.rfind(b"PK\1\2")
    source.write_bytes(
        content[: at + 20] + struct.pack("<II", 1 << 30, 1 << 30) + content[at + 28 :]
    )


def compressed(source):
    with zipfile.ZipFile(source) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    write(source, entries, zipfile.ZIP_DEFLATED)


def bare_pickle(source):
    torch.save({"a": torch.ones(1)}, source, _use_new_zipfile_serialization=False)


DAMAGES = {
    "nothing": lambda source: source.write_bytes(b""),
    "truncated": lambda source: source.write_bytes(source.read_bytes()[:500]),
    "no table": lambda source: rewrite(source, **{"data.pkl": None}),
    "two tables": lambda source: rewrite(source, **{"other/data.pkl": b"."}),
    "a program": lambda source: rewrite(source, **{"code/a.py": b"", "constants.pkl": b"."}),
    "a lost storage": lambda source: rewrite(source, **{"data/0": None}),
    "a huge table": lambda source: rewrite(source, **{"data.pkl": b"N0" * (5 << 20)}),
    "a broken table": lambda source: rewrite(source, **{"data.pkl": b"\x80\x02}q"}),
    "an empty table": lambda source: rewrite(source, **{"data.pkl": b""}),
    "compressed": compressed,
    "a bare pickle": bare_pickle,
    "a forged size": forged_size,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_archives_that_are_no_checkpoints(source, damage):
    torch.save({"a": torch.ones(3)}, source)
    damage(source)
    with pytest.raises(CheckpointError):
        convert(source)
    assert not (source.parent / "out").exists()


def test_a_table_of_many_tables_of_tables_is_counted(source):
    torch.save({"a": torch.ones(3)}, source)
    rewrite(source, **{"data.pkl": b"\x80\x02" + b"}q\x01" * 700_000 + b"."})
    with pytest.raises(CheckpointError, match="more than 1000000 instructions"):
        convert(source)


def test_a_table_that_ends_beyond_the_file_is_refused(tmp_path):
    """Sizes in the directory add up to less than the file, and yet the last entry leaves it."""
    path = tmp_path / "last.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data/0", b"0" * 10_000)
        archive.writestr("a/data.pkl", b"N.")
        archive.filelist[0].file_size = archive.filelist[0].compress_size = 0
        archive.filelist[1].file_size = archive.filelist[1].compress_size = 9_000
    with pytest.raises(CheckpointError, match="broken archive"):
        convert_weights(path, tmp_path / "out")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read"):
        convert_weights(tmp_path / "absent.pth", tmp_path / "out")
    with pytest.raises(CheckpointError, match="cannot read"):
        convert_weights(tmp_path, tmp_path / "out")
