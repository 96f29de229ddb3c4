"""Stand-in commands, and a small scene as a file."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from fake_hub import fake_hub, impatient  # noqa: F401 - fixtures
from small_room import small_room

from ffsplat.cli import app
from ffsplat.cli.console import Console, common_options
from ffsplat.io import save_scene
from ffsplat.types import Scene
from tests.cli.standing import clip, mapper  # noqa: F401 - fixtures


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


@pytest.fixture(scope="session")
def scene() -> Scene:
    """The small room."""
    return small_room()


@pytest.fixture
def scene_file(scene: Scene, tmp_path: Path) -> Path:
    """That scene as a file, its codebook beside it."""
    folder = tmp_path / "in"
    folder.mkdir()
    save_scene(scene, folder / "room.ply")
    return folder / "room.ply"
