"""Spark, in a browser, reads our files: positions, rotations, scales, opacities and colours."""

import functools
import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from ffsplat.formats import read_scene, write_scene
from ffsplat.types import SH_C0
from tests.formats.scenes import angles, small_scene

FOLDER = Path(__file__).resolve().parents[1] / "readers"
# Version 4 of SPZ is not among them: Spark 2.2 asks for gzip.
NAMES = ("a.ply", "a.splat", "2.spz", "3.spz", "c.compressed.ply", "a.sog")

pytestmark = [
    pytest.mark.reader,
    pytest.mark.skipif(
        not (FOLDER / "node_modules" / "@sparkjsdev").is_dir(),
        reason="Spark is absent: run `npm ci` in tests/readers",
    ),
]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the readers and, below /scenes/, the files of a test."""

    def __init__(self, *args, scenes: Path, **kwargs):
        self.scenes = scenes
        super().__init__(*args, directory=str(FOLDER), **kwargs)

    def translate_path(self, path: str) -> str:
        if path.startswith("/scenes/"):
            return str(self.scenes / Path(path).name)
        return super().translate_path(path)

    def log_message(self, *args) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder, scene = tmp_path_factory.mktemp("spark"), small_scene(4, count=300)
    for name in NAMES:
        version = {"spz_version": name[0]} if name.endswith(".spz") else {}
        write_scene(scene, folder / name, **version)
    return folder


@pytest.fixture(scope="module")
def page(folder, chromium):
    """A tab in which `window.read` is Spark's reader."""
    handler = functools.partial(Handler, scenes=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with chromium.tab() as tab:
            address = f"http://127.0.0.1:{server.server_port}/spark.html"
            tab.call("Page.navigate", url=address)
            while tab.get("typeof window.read") != "function":
                tab.get("new Promise((resolve) => setTimeout(resolve, 50))")
            yield tab
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", NAMES)
def test_spark_sees_what_we_read(name, page, folder):
    """Spark keeps positions as float32, rotations and scales in fewer bits."""
    seen = page.get(f"window.read({json.dumps('/scenes/' + name)})")
    gaussians = read_scene(folder / name).gaussians
    means, scales, xyzw, opacities, colors = (np.array(seen[key]) for key in seen)
    np.testing.assert_allclose(means, gaussians.means, atol=1e-6)
    np.testing.assert_allclose(np.log(scales), np.log(gaussians.scales), atol=0.02)
    assert angles(xyzw[:, [3, 0, 1, 2]], gaussians.quaternions_wxyz).max() < 1.5
    np.testing.assert_allclose(opacities, gaussians.opacities, atol=0.005)
    np.testing.assert_allclose(colors, 0.5 + SH_C0 * gaussians.sh[:, 0], atol=0.005)
