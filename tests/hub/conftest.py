"""A checkpoint to publish, and the hub to publish it on."""

import pytest
from fake_hub import fake_hub, impatient  # noqa: F401 - fixtures
from untrained import save_untrained


@pytest.fixture
def folder(tmp_path):
    return save_untrained(tmp_path / "model")


@pytest.fixture
def published(fake_hub, folder):  # noqa: F811
    """The hub with that checkpoint as org/m, beside a pickle that nobody wants."""
    (folder / "pytorch_model.bin").write_bytes(b"not to be downloaded")
    fake_hub.models["org/m"] = folder
    return fake_hub


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """What a test accepts is not accepted for the user."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
