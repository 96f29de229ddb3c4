"""Run the command line inside the test, and put stand-in commands into it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest

from ffsplat import codes
from ffsplat.cli import app
from ffsplat.cli.console import Console, common_options
from ffsplat.cli.environment import StopSignals
from ffsplat.codebook import lexicon_codebook
from ffsplat.io import save_scene
from ffsplat.types import SH_C0, Gaussians, Scene


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `ffsplat ARGUMENTS` and return its exit code and what it wrote."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = app.run([str(argument) for argument in arguments], StopSignals())
        written = capsys.readouterr()
        return Outcome(code, written.out, written.err)

    return call


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Console], object]], None]:
    """Make `ffsplat trial` call a function with the console."""

    def install(body: Callable[[Console], object]) -> None:
        @click.command("trial")
        @common_options
        @click.pass_obj
        def command(console: Console) -> object:
            return body(console)

        module = ModuleType("ffsplat.cli.trial")
        module.__dict__["command"] = command
        monkeypatch.setitem(sys.modules, "ffsplat.cli.trial", module)
        monkeypatch.setitem(app.COMMANDS, "trial", "A stand-in.")

    return install


NAMES = ("table", "sofa", "wall")
COUNTS = (300, 200, 500)


@pytest.fixture(scope="session")
def scene() -> Scene:
    """A red table, a blue sofa to its right and a grey wall behind both, as noisy blobs."""
    generator = np.random.default_rng(7)
    book = lexicon_codebook()
    labels = np.repeat(np.arange(3), COUNTS)
    means = np.array([[0, 0, 2], [1, 0, 2], [0.5, 0, 4]])[labels]
    means = means + generator.uniform(-0.2, 0.2, (len(labels), 3))
    colors = np.array([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9], [0.5, 0.5, 0.5]])[labels]
    ids = np.array([book.names.index(name) for name in NAMES])[labels]
    count = len(labels)
    gaussians = Gaussians(
        means.astype(np.float32),
        np.full((count, 3), 0.03, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 0.9, np.float32),
        ((colors - 0.5) / SH_C0).astype(np.float32)[:, None],
    )
    code = codes.from_pairs(ids[:, None].astype(np.int16), np.ones((count, 1), np.float32), 4)
    provenance = {"model": "stand-in", "license": "CC0-1.0"}
    return Scene(gaussians, code, labels.astype(np.int32), book, provenance=provenance)


@pytest.fixture
def scene_file(scene: Scene, tmp_path: Path) -> Path:
    """That scene as a file, its codebook beside it."""
    folder = tmp_path / "in"
    folder.mkdir()
    save_scene(scene, folder / "room.ply")
    return folder / "room.ply"
