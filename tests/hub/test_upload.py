"""What is committed to a hub on this machine, and the card that it shows."""

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch
import yaml
from fake_hub import COMMIT, decoded, status

from ffsplat import hub
from ffsplat.api import Model, load
from ffsplat.errors import UsageError, WeightsMissing
from ffsplat.hub.upload import card_text


@pytest.fixture
def model(folder, fake_hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    return load(str(folder), device="cpu")


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def test_a_pushed_model_comes_back(model, fake_hub, tmp_path):
    assert model.push_to_hub("org/mine", private=True) == COMMIT
    *large, commit = fake_hub.commits
    assert commit["path"] == "/api/models/org/mine/commit/main"
    with_token = {one.token is not None for one in fake_hub.asked if one.method == "POST"}
    assert with_token == {True}
    files = decoded(commit)
    assert sorted(files) == ["README.md", "config.json"]
    named = {line["value"]["path"] for line in commit["lines"] if line["key"] == "lfsFile"}
    assert named == {"model.safetensors", "codebook.safetensors"}
    assert metadata(files["README.md"].decode()) == {
        "license": "cc0-1.0",
        "library_name": "ffsplat",
        "pipeline_tag": "image-to-3d",
        "tags": ["gaussian-splatting", "3d-reconstruction", "feed-forward", "open-vocabulary"],
    }

    place = tmp_path / "published"
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    for upload in large:
        tensors = safetensors.torch.load(upload["lfs"])
        name = "model" if "role" in tensors else "codebook"
        (place / f"{name}.safetensors").write_bytes(upload["lfs"])
    fake_hub.models["org/mine"] = place
    again = Model.from_pretrained("org/mine", device="cpu")
    assert again.provenance["model"] == "org/mine"
    assert again.provenance["license"] == "CC0-1.0"
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name


def test_the_licence_that_was_loaded_goes_into_card_and_configuration(model, fake_hub):
    model.provenance["license"] = "CC-BY-NC-4.0"
    model.push_to_hub("org/mine")
    files = decoded(fake_hub.commits[-1])
    assert b'"license": "CC-BY-NC-4.0"' in files["config.json"]
    assert metadata(files["README.md"].decode())["license"] == "cc-by-nc-4.0"


def test_licences_that_the_hub_does_not_know_are_named(model):
    card = card_text("org/m", model.network, "Apache-2.0 AND MIT")
    assert metadata(card)["license"] == "other"
    assert metadata(card)["license_name"] == "Apache-2.0 AND MIT"
    assert "ffsplat infer photos/ --out scene.ply --model org/m" in card
    assert card_text("org/m", model.network, "MIT", "# Mine\n").endswith("---\n\n# Mine\n")
    whole = "---\nlicense: mit\n---\n# Mine\n"
    assert card_text("org/m", model.network, "MIT", whole) == whole
    with pytest.raises(UsageError, match="is no SPDX identifier"):
        card_text("org/m", model.network, 'MIT"\ntags: [x]')


def test_what_goes_wrong_is_told_in_a_line(model, fake_hub):
    with pytest.raises(UsageError, match="is no org/name on the hub"):
        model.push_to_hub("mine")
    fake_hub.fail("/preupload/", status(403), times=1)
    with pytest.raises(WeightsMissing, match="does not let you write to org/mine") as caught:
        model.push_to_hub("org/mine")
    assert "hf auth login" in caught.value.hint
    fake_hub.fail("/commit/", status(500))
    with pytest.raises(WeightsMissing, match="the upload to org/mine failed: "):
        model.push_to_hub("org/mine")


def test_a_model_that_was_pushed_offers_no_pickle(model, fake_hub):
    model.push_to_hub("org/mine")
    named = [line["value"].get("path") for line in fake_hub.commits[-1]["lines"]]
    assert set(named[1:]) == set(hub.FILES)
