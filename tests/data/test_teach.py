"""`python -m data teach`: the same clips with one more teacher, and training on them."""

import csv
import io
import json
from dataclasses import fields, replace
from functools import partial

import numpy as np
import open_clip
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from data.__main__ import main
from data.clip import Clip
from data.shards import ShardDataset, ShardError, write_shards
from data.teachers import DenseNetwork, Record, read_records, teach
from ffsplat.errors import OutputError, UsageError
from ffsplat.hub import load_checkpoint

TEACHER = "open_clip:toy-teacher/own"


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory):
    """A small OpenCLIP model."""
    folder = tmp_path_factory.mktemp("config")
    vision = {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}
    (folder / "toy-teacher.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


class Means(DenseNetwork):
    """The mean colour of each patch of 4 x 6 pixels."""

    def __init__(self):
        super().__init__((4, 6), 3, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def dense(self, images):
        return torch.nn.functional.avg_pool2d(images, (4, 6))


MEANS = Record("means", 3, "random", 0)


def make_clip(key: str, seed: int) -> Clip:
    """Two views of 8 x 12 pixels with files of their own, JPEG and PNG, and every kind of map."""
    random = np.random.default_rng(seed)
    shape = (2, 8, 12)
    files = []
    for kind in ("JPEG", "PNG"):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (8, 12, 3), np.uint8)).save(file, kind)
        files.append(file.getvalue())
    return Clip(
        key=key, source="test", metric=False,
        images=np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files]),
        intrinsics=np.tile(np.array([[9, 0, 6], [0, 9, 4], [0, 0, 1]], np.float32), (2, 1, 1)),
        world_from_camera=np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)),
        depth=random.uniform(0.5, 7, shape).astype(np.float32),
        whole=random.integers(-1, 60, shape, np.int16),
        part=random.integers(-1, 60, shape, np.int16),
        instance=random.integers(-1, 9, shape, np.int16),
        photos=tuple(files),
    )  # fmt: skip


@pytest.fixture
def shards(tmp_path):
    """Five clips in three shards."""
    write_shards((make_clip(f"clip-{i}", i) for i in range(5)), tmp_path / "in", max_count=2)
    return tmp_path / "in"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_clips_keep_all_that_they_had_and_gain_a_teacher(shards, tmp_path):
    index = teach(ShardDataset(shards), tmp_path / "out", "means", Means(), MEANS)
    before, after = ShardDataset(shards), ShardDataset(tmp_path / "out")
    assert len(index) == len(after) == 5
    for number in range(5):
        old, new = before.with_photos(number), after.with_photos(number)
        assert new.photos == old.photos
        assert [photo[:4] for photo in new.photos] == [b"\xff\xd8\xff\xe0", b"\x89PNG"]
        for field in fields(Clip):
            a, b = getattr(old, field.name), getattr(new, field.name)
            if field.name == "depth":
                np.testing.assert_allclose(b, a, rtol=1e-6)
            elif isinstance(a, np.ndarray):
                np.testing.assert_array_equal(b, a)
        blocks = old.images.reshape(2, 2, 4, 2, 6, 3).mean((2, 4)) / 255
        assert set(new.teachers) == {"means"}
        np.testing.assert_allclose(
            new.teachers["means"].transpose(0, 2, 3, 1), blocks, atol=1e-3
        )  # fmt: skip
    assert read_records(tmp_path / "out") == {"means": MEANS}


def test_photos_are_the_files_in_the_order_of_the_views(shards):
    clip = ShardDataset(shards).with_photos(3)
    assert clip.photos == make_clip("clip-3", 3).photos
    assert ShardDataset(shards)[3].photos == ()


def test_teachers_are_added_one_after_another_each_under_its_own_name(shards, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    teach(ShardDataset(shards), first, "means", Means(), MEANS)
    smaller = replace(MEANS, shorter=4)
    teach(ShardDataset(first), second, "small", Means(), smaller)
    clip = ShardDataset(second)[4]
    assert clip.teachers["means"].shape == (2, 3, 2, 2)
    assert clip.teachers["small"].shape == (2, 3, 1, 1)
    np.testing.assert_array_equal(clip.teachers["means"], ShardDataset(first)[4].teachers["means"])
    assert read_records(second) == {"means": MEANS, "small": smaller}
    with pytest.raises(UsageError, match="clip-0 has a teacher 'means' already"):
        teach(ShardDataset(second), tmp_path / "third", "means", Means(), MEANS)
    assert not (tmp_path / "third").exists()


def test_a_name_that_a_later_clip_has_is_refused_too(tmp_path):
    taken = {"means": np.ones((2, 1, 1, 1), np.float16)}
    clips = [make_clip("a", 0), replace(make_clip("b", 1), teachers=taken)]
    write_shards(clips, tmp_path / "in")
    with pytest.raises(UsageError, match="clip b"):
        teach(ShardDataset(tmp_path / "in"), tmp_path / "out", "means", Means(), MEANS)


@pytest.mark.parametrize("name", ["", "__metadata__", "a/b", "a b", "-a", "a" * 80])
def test_names_that_no_shard_should_hold(shards, tmp_path, name):
    with pytest.raises(UsageError, match="not a name for a teacher"):
        teach(ShardDataset(shards), tmp_path / "out", name, Means(), MEANS)


class Interrupted(Means):
    """Fails at the fourth clip."""

    seen = 0

    def dense(self, images):
        self.seen += 1
        if self.seen == 4:
            raise KeyboardInterrupt
        return super().dense(images)


def test_an_interrupted_run_goes_on_with_the_same_teacher_only(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("data.teachers.taught.write_shards", partial(write_shards, max_count=2))
    dataset, out = ShardDataset(shards), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        teach(dataset, out, "means", Interrupted(), MEANS)
    assert {path.name for path in out.iterdir()} == {"taught-000000.tar", "teachers.json"}
    with pytest.raises(OutputError, match="another teacher"):
        teach(dataset, out, "means", Means(), replace(MEANS, shorter=16))
    counting = Interrupted()
    counting.seen = -10
    teach(dataset, out, "means", counting, MEANS)
    assert counting.seen == -7  # three clips were still to be done
    teach(dataset, tmp_path / "whole", "means", Means(), MEANS)
    assert contents(out) == contents(tmp_path / "whole")
    with pytest.raises(OutputError, match="finished"):
        teach(dataset, out, "means", Means(), MEANS)


def test_before_the_first_shard_another_teacher_may_still_be_chosen(shards, tmp_path):
    failing = Interrupted()
    failing.seen = 3
    with pytest.raises(KeyboardInterrupt):
        teach(ShardDataset(shards), tmp_path / "out", "wrong", failing, MEANS)
    teach(ShardDataset(shards), tmp_path / "out", "means", Means(), MEANS)
    assert set(read_records(tmp_path / "out")) == {"means"}


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"format": "ffsplat.teachers 2", "teachers": {}}',
        '{"format": "ffsplat.teachers 1", "teachers": []}',
        '{"format": "ffsplat.teachers 1", "teachers": {"a": {"space": "x"}}}',
        '{"format": "ffsplat.teachers 1", "teachers": {"a": {"space": "x", "width": "3", '
        '"weights": "random", "shorter": 0}}}',
        '{"format": "ffsplat.teachers 1", "teachers": {"a": {"space": "x", "width": 3, '
        '"weights": "random", "shorter": 0, "more": 1}}}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_records_of_another_form(tmp_path, text):
    (tmp_path / "teachers.json").write_text(text)
    with pytest.raises(ShardError):
        read_records(tmp_path)


def test_features_that_float16_does_not_hold_are_refused(shards, tmp_path):
    class Huge(Means):
        def dense(self, images):
            return super().dense(images) * 1e9

    with pytest.raises(ShardError, match="not finite"):
        teach(ShardDataset(shards), tmp_path / "out", "means", Huge(), MEANS)


def test_the_command(shards, tmp_path):
    out = tmp_path / "out"
    result = run(
        "teach", shards, "--out", out, "--teacher", TEACHER, "--weights", "random", "--size", "16"
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{TEACHER}: you get the weights yourself; their licence:")
    space = "open_clip:toy-teacher/random"
    assert result.output.endswith(f'teacher: {{name: clip, width: 12, space: "{space}"}}\n')
    assert read_records(out) == {"clip": Record(space, 12, "random", 16)}
    clip = ShardDataset(out)[0]
    assert clip.teachers["clip"].shape == (2, 12, 2, 3)
    lengths = np.linalg.norm(clip.teachers["clip"].astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=2e-3)
    again = run("teach", out, "--out", tmp_path / "b", "--teacher", TEACHER, "--weights", "random")
    assert again.exit_code == 2
    assert "clip-0 has a teacher 'clip' already\nhint: --name another" in again.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--teacher": "vit"}, "not the name of a teacher"),
        ({"--weights": "net.pt"}, "net.pt is not a safetensors file"),
        ({"--weights": "hub"}, "open_clip knows no weights 'own' of toy-teacher"),
        ({"--name": "a/b"}, "not a name for a teacher"),
    ],
)
def test_mistakes_are_told_in_a_line_and_leave_nothing(shards, tmp_path, changes, message):
    options = {"--out": tmp_path / "out", "--teacher": TEACHER, "--weights": "random"} | changes
    result = run("teach", shards, *(item for pair in options.items() for item in pair))
    assert result.exit_code in (1, 2)
    assert f"Error: {message}" in result.output
    assert isinstance(result.exception, SystemExit)
    assert not (tmp_path / "out").exists()


NETWORK = {
    "name": "taught", "resolution": 32, "width": 24, "heads": 2, "view_blocks": 1,
    "cross_blocks": 3, "match_block": 2, "patch": 8, "decoder": [16, 12, 8], "match_width": 8,
    "code_width": 8, "registers": 1, "whole_rows": 6, "part_rows": 0,
}  # fmt: skip
LOSSES = ("teacher_cosine", "teacher_l1", "teacher_code", "dictionary", "load_balance", "affinity")


def test_rooms_taught_and_trained_on_end_in_a_codebook_of_the_space(tmp_path):
    from train.cli import run as train

    rooms = ("rooms", "--scenes", "2", "--views", "3", "--size", "32", "--split", "preview")
    assert run(*rooms, "--out", tmp_path / "rooms").exit_code == 0
    taught = tmp_path / "taught"
    result = run(
        "teach", tmp_path / "rooms", "--out", taught, "--teacher", TEACHER, "--weights", "random"
    )
    teacher = yaml.safe_load(result.output.splitlines()[-1])
    recipe = {
        "model": {"network": NETWORK, "losses": dict.fromkeys(LOSSES, 1.0)} | teacher,
        "data": {
            "sources": [{"shards": str(taught), "size": 32}], "images": 4, "view_counts": [2],
            "workers": 0, "readers": 0,
        },
        "trainer": {
            "max_steps": 2, "accelerator": "cpu", "devices": 1, "limit_val_batches": 0,
            "val_check_interval": None, "log_every_n_steps": 1, "precision": "32-true",
        },
    }  # fmt: skip
    path, out = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(recipe))
    train(["fit", "--config", str(path), "--out", str(out)])
    with next(out.glob("csv/*/metrics.csv")).open() as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    assert len(rows) == 2
    assert all(float(row[f"loss/{name}"]) > 0 for row in rows for name in LOSSES)
    folder = tmp_path / "model"
    train(["export", "--config", str(path), "--out", str(out), "--folder", str(folder)])
    _, codebook = load_checkpoint(folder)
    assert list(codebook.spaces) == ["open_clip:toy-teacher/random"]
    rows = codebook.spaces["open_clip:toy-teacher/random"]
    assert rows.shape == (6, 12)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
