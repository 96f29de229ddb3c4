"""Shared fixtures; annotated shapes are checked while tests run."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Set before torch: threads that spin on shared cores cost five times the work they do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Set before huggingface_hub: "auto" must be the same model on every machine, so there is no network
# and, in a folder that nobody makes, no cache.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = os.environ["HF_HUB_CACHE"] = f"{tempfile.gettempdir()}/ffsplat-tests/hub"
os.environ.pop("HF_TOKEN", None)

import pytest
from jaxtyping import install_import_hook

install_import_hook(["ffsplat", "data", "train.losses"], "beartype.beartype")

# Shells have what they run in the background ignore interrupts, which all that it starts inherits.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from tests.stream.server.browser import Chromium

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos and ground truth, or skip."""
    folder = Path(os.environ.get("FFSPLAT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real photos: {folder} is absent (set FFSPLAT_DATA)")
    return folder


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Chromium"]:
    """The browser of this run; `with chromium.tab() as page` is a tab of its own."""
    from tests.stream.server.browser import Chromium

    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.stop()
