"""Damaged and hostile shards: the same clip comes back, or an error that names shard and clip."""

import hashlib
import json
import os
import pickle
import tarfile
import tracemalloc
import zlib
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from data.shards import (
    ShardDataset,
    ShardError,
    decode_clip,
    encode_clip,
    verify_shards,
    write_shards,
)
from data.shards.index import parse_index
from data.shards.members import scan, unpack
from data.shards.writer import pack
from ffsplat.errors import FFSplatError


class Touch:
    """Unpickling an instance makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def reindex(folder: Path, content: bytes, keys: list[str]) -> None:
    """One shard of these bytes with an index that believes all of it."""
    size = len(content) - 1024
    samples = [[key, 0, size, zlib.crc32(content[:size])] for key in keys]
    entry = {
        "name": "x.tar",
        "count": len(keys),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "samples": samples,
    }
    folder.mkdir(exist_ok=True)
    (folder / "x.tar").write_bytes(content)
    (folder / "index.json").write_text(
        json.dumps({"format": "ffsplat.shards 1", "shards": [entry]})
    )


@pytest.mark.parametrize("suffix", ["pyd", "pickle", "pkl", "pth"])
def test_a_pickle_in_a_shard_is_never_loaded(tmp_path, make_clip, suffix):
    made = tmp_path / "made"
    harm = pickle.dumps(Touch(made))
    parts = encode_clip(make_clip()) | {f"x.{suffix}": harm}
    reindex(tmp_path / "bad", pack("a", parts) + bytes(1024), ["a"])
    with pytest.raises(ShardError, match=rf"x\.tar, clip a: its part x\.{suffix} is none"):
        ShardDataset(tmp_path / "bad")[0]
    assert [verdict.fault is None for verdict in verify_shards(tmp_path / "bad")] == [False]
    assert not made.exists()
    pickle.loads(harm)  # noqa: S301 - that it would have done harm
    assert made.exists()


@pytest.mark.parametrize(
    "name",
    ["pipe:touch {}", "pipe:touch {}.tar", "../x.tar", "/etc/x.tar", "a/b.tar", "-x.tar|sh",
     "http://h/x.tar", "file:-x.tar", "memory::x.tar", ".tar", "x.tar\n", "x.tgz", ""],
)  # fmt: skip
def test_an_index_that_names_anything_but_a_plain_file_is_refused(shards, tmp_path, name):
    made = tmp_path / "made"
    index = json.loads((shards / "index.json").read_text())
    index["shards"][0]["name"] = name.format(made)
    (shards / "index.json").write_text(json.dumps(index))
    with pytest.raises(ShardError, match="not the plain name of a tar file"):
        ShardDataset(shards)
    assert not made.exists()


def scanned(archive: bytes) -> list:
    return list(scan(BufferedReader(BytesIO(archive)), len(archive)))  # pyright: ignore


def tar(name="a.meta.json", content=b"{}", **changes) -> bytes:
    """An archive of one member, by tarfile."""
    file = BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=changes.pop("format", tarfile.USTAR_FORMAT)
    ) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for key, value in changes.items():
            setattr(member, key, value)
        archive.addfile(member, BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (tar("../a.meta.json"), r"'../a\.meta\.json' is not a plain file"),
        (tar("/a.meta.json"), "not a plain file"),
        (tar("x/a.meta.json"), "not a plain file"),
        (tar("a" * 90 + ".meta.json"), "not a plain file"),
        (tar("x" * 60 + "/" + "y" * 60, format=tarfile.USTAR_FORMAT), "not a plain file"),
        (tar("x" * 120 + ".meta.json", format=tarfile.PAX_FORMAT), "not a plain file"),
        (tar("x" * 120 + ".meta.json", format=tarfile.GNU_FORMAT), "not a plain file"),
        (tar(type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0), "not a plain file"),
        (tar(type=tarfile.LNKTYPE, linkname="b", size=0), "not a plain file"),
        (tar(type=tarfile.CHRTYPE, size=0), "not a plain file"),
        (tar(size=0)[:124] + b"77777777777\0" + tar()[136:], "where a tar header should stand"),
        (b"\1" * 2048, "where a tar header should stand"),
        (tar()[:700], "truncated|more than are there"),
    ],
)
def test_other_members_are_refused(archive, message):
    with pytest.raises(ShardError, match=message):
        unpack(archive[:1024], "a")
    with pytest.raises(ShardError, match=message):
        scanned(archive)


def with_size(archive: bytes, digits: bytes) -> bytes:
    """An archive whose first member claims another size, with a right checksum."""
    header = archive[:124] + digits + archive[136:148] + b" " * 8 + archive[156:512]
    checksum = b"%06o\0 " % sum(header)
    return header[:148] + checksum + header[156:] + archive[512:]


@pytest.mark.parametrize(
    "digits",
    [
        b"77777777777\0",
        b"00000002001\0",
        b"-0000000001\0",
        b"\x80" + b"\0" * 10 + b"\5",
        b"\xff" * 12,
    ],
)
def test_a_member_larger_than_its_shard_is_refused(tmp_path, digits):
    archive = with_size(tar(content=b"x" * 600), digits)
    assert with_size(tar(), b"00000000002\0") == tar(), "the helper writes what tarfile writes"
    tracemalloc.start()
    reindex(tmp_path / "x", archive[:1536] + bytes(1024), ["a"])
    with pytest.raises(ShardError, match=r"x\.tar, clip a: .*(more than are there|for a number)"):
        ShardDataset(tmp_path / "x")[0]
    with pytest.raises(ShardError, match=r"more than are left|for a number|has no end"):
        scanned(archive[:1536] + bytes(1024))
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


def test_members_of_another_clip_and_repeated_parts_are_refused(make_clip):
    parts = encode_clip(make_clip())
    with pytest.raises(ShardError, match="a member of clip b stands among its own"):
        unpack(pack("a", parts) + pack("b", parts), "a")
    with pytest.raises(ShardError, match=r"0000\.depth\.png stands there twice"):
        unpack(pack("a", parts) * 2, "a")


def edit(name, value):
    return lambda entry: entry.__setitem__(name, value)


def edit_sample(column, value):
    return lambda entry: entry["samples"][1].__setitem__(column, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("count", 4), "count is not the number"),
        (edit("sha256", "0" * 63), "malformed"),
        (edit("bytes", 5), "reach beyond"),
        (edit("bytes", "5"), "mistyped"),
        (edit("extra", 5), "unknown"),
        (edit("samples", []), "mistyped"),
        (edit("samples", [1] * 5), "non-iterable"),
        (edit("name", "test-000001.tar"), r"shard test-000001\.tar stands there twice"),
        (edit_sample(0, "clip-00"), "clip clip-00 stands there twice"),
        (edit_sample(0, "../x"), "no proper key"),
        (edit_sample(0, 7), "no proper key"),
        (edit_sample(1, 0), "overlap"),
        (edit_sample(1, -512), "overlap"),
        (edit_sample(1, 2.0), "offset, size and CRC-32"),
        (edit_sample(2, 2**40), "absurd sizes"),
        (edit_sample(2, 513), "absurd sizes"),
        (edit_sample(2, 2**70), "too large|too big"),
        (edit_sample(3, -1), "32 bits"),
        (edit_sample(3, None), "offset, size and CRC-32"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(shards, change, message):
    index = json.loads((shards / "index.json").read_text())
    change(index["shards"][0])
    with pytest.raises(ShardError, match=f"my index is not an index of shards: .*({message})"):
        parse_index(json.dumps(index).encode(), "my index")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"[" * 10**5, b"\xff", b'{"format": "ffsplat.shards 1", "shards": []}'],
)
def test_what_is_no_index_is_refused(content):
    with pytest.raises(ShardError, match="my index is not an index of shards"):
        parse_index(content, "my index")


def test_a_missing_or_strange_file_is_an_error_of_ours(tmp_path, shards):
    with pytest.raises(FFSplatError, match="cannot read"):
        ShardDataset(tmp_path / "nothing")
    (shards / "test-000000.tar").unlink()
    with pytest.raises(FFSplatError, match=r"test-000000\.tar, clip clip-00: cannot read"):
        ShardDataset(shards)[0]
    os.mkfifo(shards / "test-000000.tar")
    with pytest.raises(FFSplatError, match="not a regular file"):
        ShardDataset(shards)[0]


def test_damage_that_a_worker_meets_is_told_by_name(shards):
    path = shards / "test-000001.tar"
    path.write_bytes(path.read_bytes()[:-9000].ljust(path.stat().st_size, b"\0"))
    loader = DataLoader(ShardDataset(shards), batch_size=None, sampler=[9, 0], num_workers=1)
    clips = iter(loader)
    with pytest.raises(ShardError, match=r"test-000001\.tar, clip clip-09: damaged"):
        next(clips)
    assert [clip.key for clip in clips] == ["clip-00"], "the worker lives on"


def test_verify_finds_what_is_wrong(shards):
    first, second, third, _ = sorted(shards.glob("*.tar"))
    first.write_bytes(first.read_bytes()[:-1024])
    content = bytearray(second.read_bytes())
    content[5000] ^= 1
    second.write_bytes(content)
    third.write_bytes(third.read_bytes()[:-1] + b"\1")  # beyond the last clip: only the sum knows
    verdicts = list(verify_shards(shards))
    assert [verdict.clips for verdict in verdicts] == [5, 5, 5, 2]
    assert [(verdict.fault or "")[-30:] for verdict in verdicts][3] == ""
    for verdict, message in zip(verdicts, ["bytes, not", "sha256", "sha256"], strict=False):
        assert message in (verdict.fault or ""), verdict


def test_verify_decodes(tmp_path, make_clip):
    reindex(
        tmp_path, pack("a", encode_clip(make_clip()) | {"meta.json": b"{}"}) + bytes(1024), ["a"]
    )
    (verdict,) = verify_shards(tmp_path)
    assert "x.tar, clip a: meta.json has missing" in str(verdict.fault)
    reindex(tmp_path, pack("a", encode_clip(make_clip())) + bytes(1024), ["b"])
    (verdict,) = verify_shards(tmp_path)
    assert verdict.fault == "its clips are not those of the index"


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Some bytes changed, cut out, repeated, or the end cut off."""
    spoilt = bytearray(content)
    start = int(random.integers(len(spoilt)))
    match random.integers(4):
        case 0:
            for place in random.integers(len(spoilt), size=random.integers(1, 4)):
                spoilt[place] ^= 1 << int(random.integers(8))
        case 1:
            del spoilt[start:]
        case 2:
            del spoilt[start : start + int(random.integers(1, 700))]
        case _:
            spoilt[start:start] = spoilt[start : start + int(random.integers(1, 700))]
    return bytes(spoilt)


def test_random_damage_gives_the_same_clip_or_an_error(shards, same):
    random = np.random.default_rng(0)
    dataset = ShardDataset(shards)
    clips = [dataset[i] for i in range(5)]
    path = shards / "test-000000.tar"
    whole = path.read_bytes()
    survived, messages = 0, set()
    for _ in range(60):
        spoilt = damage(whole, random)
        path.write_bytes(
            spoilt[: len(whole)].ljust(len(whole), b"\0") if random.random() < 0.8 else spoilt
        )
        for i, clip in enumerate(clips):
            try:
                found = dataset[i]
            except FFSplatError as error:
                messages.add(str(error))
            else:
                same(found, clip, depth=0)
                survived += 1
    assert 50 < survived < 250
    assert all(message.startswith("test-000000.tar, clip clip-0") for message in messages)


def test_random_damage_without_checksums_never_raises_anything_else(make_clip):
    """The codec alone, as if whoever damaged the bytes had mended all sums."""
    random = np.random.default_rng(1)
    parts = encode_clip(make_clip())
    content = pack("a", parts)
    outcomes = {"clip": 0, "error": 0}
    for _ in range(400):
        if random.random() < 0.3:
            spoilt = damage(content, random)
        else:
            name = sorted(parts)[random.integers(len(parts))]
            spoilt = pack("a", parts | {name: damage(parts[name], random)})
        try:
            clip = decode_clip("a", unpack(spoilt, "a"))
        except ShardError:
            outcomes["error"] += 1
        else:
            assert clip.images.shape == (2, 6, 8, 3)
            assert np.isfinite(clip.world_from_camera).all()
            outcomes["clip"] += 1
    assert min(outcomes.values()) > 30


def test_random_damage_of_an_index_is_found(shards):
    random = np.random.default_rng(2)
    content = (shards / "index.json").read_bytes()
    for _ in range(200):
        try:
            index = parse_index(damage(content, random), "index")
        except ShardError:
            continue
        for shard in index.shards:
            assert all(shard.sample(row).size > 0 for row in range(len(shard)))


def test_damage_to_a_shard_stops_a_run_that_would_go_on(tmp_path, make_clip):
    clips = [make_clip(f"c{i}", i) for i in range(3)]
    write_shards(iter(clips), tmp_path, "c")
    (tmp_path / "index.json").unlink()
    path = tmp_path / "c-000000.tar"
    content = path.read_bytes()
    path.write_bytes(content[:512] + b"\7" * 512 + content[1024:])
    random = np.random.default_rng(3)
    for _ in range(25):
        path.write_bytes(damage(content, random))
        try:
            index = write_shards(iter(clips), tmp_path, "c")
        except FFSplatError:
            continue
        assert len(index) >= 3
        (tmp_path / "index.json").unlink()
        for extra in list(tmp_path.glob("c-*.tar"))[1:]:
            extra.unlink()
