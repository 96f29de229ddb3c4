"""Non-commercial weights: refused until accepted, once, and named in what is made with them."""

import json

import pytest

from ffsplat import hub
from ffsplat.errors import LicenseNotAccepted
from ffsplat.hub.licenses import (
    card_license,
    record_path,
    require_license,
    require_text_license,
)
from ffsplat.zoo import GEOMETRY, TEXT_ENCODERS, is_non_commercial


@pytest.mark.parametrize(
    "license",
    [
        "CC-BY-NC-4.0",
        "cc-by-nc-sa-4.0",
        "other-non-commercial",
        "fair-noncommercial-research",
        "NC",
    ],
)
def test_licences_that_exclude_commerce(license):
    assert is_non_commercial(license)


@pytest.mark.parametrize(
    "license", ["Apache-2.0", "MIT", "CC-BY-4.0", "unknown", "CC0-1.0", "NCSA"]
)
def test_licences_that_do_not(license):
    assert not is_non_commercial(license)


def test_the_table_tells_which_published_weights_are_free():
    free = {entry.name: not entry.non_commercial for entry in (*GEOMETRY, *TEXT_ENCODERS.values())}
    assert free == {
        "da3-small": True, "da3-base": True, "da3-large": False, "da3-giant": False, "clip": True,
    }  # fmt: skip


def test_published_weights_are_refused_before_anything_is_asked(fake_hub):
    with pytest.raises(LicenseNotAccepted) as caught:
        hub.resolve("da3-giant")
    message = str(caught.value)
    assert "depth-anything/DA3-GIANT-1.1 are for non-commercial use only" in message
    assert "licence CC-BY-NC-4.0: https://huggingface.co/depth-anything/DA3-GIANT-1.1" in message
    assert "--accept-license" in str(caught.value.hint)
    assert caught.value.exit_code == 6
    assert fake_hub.asked == []


@pytest.fixture
def restricted(published, folder):
    """The hub with a model that excludes commerce."""
    config = folder / "config.json"
    config.write_text(config.read_text().replace("CC0-1.0", "CC-BY-NC-4.0"))
    return published


def test_weights_of_others_are_not_fetched_before_their_licence_is_accepted(restricted):
    with pytest.raises(LicenseNotAccepted, match="org/m are for non-commercial use only"):
        hub.resolve("org/m")
    assert not any("safetensors" in path for path in restricted.paths)
    found = hub.resolve("org/m", accept_license=True)
    assert found.provenance["license"] == "CC-BY-NC-4.0"
    assert hub.resolve("org/m") == hub.resolve("org/m", offline=True) == found


def test_what_is_in_the_cache_must_be_accepted_as_well(restricted, folder):
    hub.resolve("org/m", accept_license=True)
    record_path().unlink()
    with pytest.raises(LicenseNotAccepted):
        hub.resolve("org/m", offline=True)


def test_an_acceptance_is_for_one_licence_of_one_repository():
    require_license("org/a", "CC-BY-NC-4.0", accept=True)
    require_license("org/a", "CC-BY-NC-4.0", accept=False)
    for other in (("org/b", "CC-BY-NC-4.0"), ("org/a", "CC-BY-NC-ND-4.0")):
        with pytest.raises(LicenseNotAccepted):
            require_license(*other, accept=False)
    (entry,) = json.loads(record_path().read_text())
    assert (entry["repository"], entry["license"]) == ("org/a", "CC-BY-NC-4.0")


@pytest.mark.parametrize("content", ["{", "[3]", '{"a": 1}', "[" * 100_000, "\xff"])
def test_a_record_that_is_broken_accepts_nothing(content):
    record_path().parent.mkdir(parents=True, exist_ok=True)
    record_path().write_text(content, encoding="latin-1")
    with pytest.raises(LicenseNotAccepted):
        require_license("org/a", "CC-BY-NC-4.0", accept=False)
    require_license("org/a", "CC-BY-NC-4.0", accept=True)
    require_license("org/a", "CC-BY-NC-4.0", accept=False)


def test_a_record_that_cannot_be_kept_is_told(caplog):
    record_path().parent.parent.mkdir(parents=True, exist_ok=True)
    record_path().parent.write_text("a file in the way")
    require_license("org/a", "CC-BY-NC-4.0", accept=True)
    assert "your acceptance could not be kept" in caplog.text


CARDS = {
    "---\nlicense: mit\n---\n# A": "mit",
    "---\ntags: [a]\nlicense: 'cc-by-nc-4.0' # why\nother: x\n---\n": "cc-by-nc-4.0",
    "---\nlicense: other\nlicense_name: my-license\n---\n": "my-license",
    "# No metadata\nlicense: mit": "unknown",
    "---\nlicense: [\n": "unknown",
    "": "unknown",
}


@pytest.mark.parametrize(("card", "license"), CARDS.items(), ids=CARDS.values())
def test_the_licence_of_a_card(tmp_path, card, license):
    (tmp_path / "README.md").write_text(card)
    assert card_license(tmp_path) == license
    assert card_license(tmp_path / "absent") == "unknown"


def test_a_text_encoder_may_be_for_non_commercial_use_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    require_text_license("lexicon", False)
    require_text_license("open_clip:ViT-B-16/laion2b_s34b_b88k", False)
    space = "open_clip:ViT-B-16-quickgelu/metaclip_400m"
    with pytest.raises(
        LicenseNotAccepted, match=r"timm/vit_base_patch16_clip_224\.metaclip_400m are for non"
    ):
        require_text_license(space, False)
    require_text_license(space, True)
    require_text_license(space, False)
