"""The built wheel is complete: in an empty folder, offline, it turns photos into a scene."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = "ffsplat/checkpoints/ffsplat-tiny"
NETWORK_EXIT = 99

pytestmark = pytest.mark.slow

NO_NETWORK = f"""
import os, socket

def refuse(*arguments, **options):
    os.write(2, b"a network call was made\\n")
    os._exit({NETWORK_EXIT})

socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    arguments = ["-m", "build", "--wheel", *isolation, "--outdir", str(folder), str(ROOT)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory) -> Path:
    """An empty folder into which the wheel was installed without its dependencies."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    return folder


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with the installed wheel and without a network."""
    blocked = folder.parent / "no_network"
    blocked.mkdir(exist_ok=True)
    (blocked / "sitecustomize.py").write_text(NO_NETWORK)
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (installed, blocked))), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **paths, "HOME": str(folder.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_top_level_names_and_checkpoint(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    info = {name for name in top if name.endswith(".dist-info")}
    assert len(info) == 1
    assert top - info == {"ffsplat"}
    for file in ("config.json", "model.safetensors", "codebook.safetensors"):
        assert f"{CHECKPOINT}/{file}" in names
    assert {"ffsplat/py.typed", "ffsplat/lexicon.csv"} <= set(names)


def test_infer_offline_in_an_empty_folder(installed: Path, tmp_path: Path):
    photos = tmp_path / "photos"
    photos.mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        pixels = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((160, 120)).save(photos / f"{number}.png")
    empty = tmp_path / "empty"
    empty.mkdir()

    where = run(installed, empty, "-c", "import ffsplat; print(ffsplat.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(installed), where.stderr
    done = run(installed, empty, "-m", "ffsplat", "infer", str(photos), "--out", "scene.ply")
    assert done.returncode == 0, done.stderr
    assert "ffsplat-tiny" in done.stdout
    assert PlyData.read(str(empty / "scene.ply"))["vertex"].count > 0
    assert {path.name for path in empty.iterdir()} == {"scene.ply", "scene.codebook.safetensors"}
    assert run(installed, empty, "-m", "ffsplat", "check", "scene.ply").returncode == 0


def test_the_network_is_blocked_in_these_tests(installed: Path, tmp_path: Path):
    folder = tmp_path / "empty"
    folder.mkdir()
    code = "import socket; socket.create_connection(('localhost', 1))"
    assert run(installed, folder, "-c", code).returncode == NETWORK_EXIT
