"""config.json: a faithful round trip, and every malformed file refused by name."""

import json

import pytest

from ffsplat.config import ModelConfig
from ffsplat.errors import CheckpointError
from ffsplat.zoo.da3_names import PRESETS


def test_round_trip():
    config = ModelConfig(name="x", width=128, heads=4, decoder=(32, 16, 8), meaning_opacity=True)
    again = ModelConfig.from_json(config.to_json())
    assert again == config


def test_a_file_from_before_meaning_had_an_opacity():
    values = json.loads(ModelConfig(name="old").to_json())
    del values["meaning_opacity"]
    assert ModelConfig.from_json(json.dumps(values)) == ModelConfig(name="old")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sidth": 3}, "unknown keys: sidth"),
        ({"format": 2}, "format 2"),
        ({"width": "wide"}, "width cannot be 'wide'"),
        ({"width": 190}, "does not split"),
        ({"width": True}, "width cannot be True"),
        ({"meaning_opacity": 1}, "meaning_opacity cannot be 1"),
        ({"width": 10**9}, "width cannot be"),
        ({"decoder": [8, -1, 4]}, "decoder cannot be"),
        ({"decoder": [8, 4]}, "needs 3 decoder stages"),
        ({"patch": 12}, "power of two"),
        ({"match_block": 99}, "no block 99"),
    ],
)
def test_refused(change, message):
    values = json.loads(ModelConfig().to_json()) | change
    with pytest.raises(CheckpointError, match=message):
        ModelConfig.from_json(json.dumps(values))


DPT = PRESETS["da3-small"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": "wavelet"}, "stem is convolution or patch, not wavelet"),
        ({"stem": "convolution"}, "needs a patch stem"),
        ({"norm_epsilon": 0.0}, "norm_epsilon cannot be 0.0"),
        ({"norm_epsilon": float("nan")}, "norm_epsilon cannot be nan"),
        ({"read_out": "pixel"}, "power of two"),
        ({"taps": [5, 7, 9]}, "needs 4 taps"),
        ({"taps": [5, 7, 9, 12]}, "from the camera_block on"),
        ({"taps": [3, 7, 9, 11]}, "from the camera_block on"),
        ({"whole_rows": 3}, "no codebook rows"),
        ({"dpt_width": 40}, "width of 16n"),
        ({"dpt_channels": [48, 96, 190, 384]}, "multiples of 4"),
        ({"camera_encoder": 13}, "at most all blocks"),
        ({"sh_degree": 4}, "at most 3"),
        ({"heads": 0}, "must be positive"),
    ],
)
def test_a_dpt_that_cannot_be_is_refused(change, message):
    values = json.loads(DPT.to_json()) | change
    with pytest.raises(CheckpointError, match=message):
        ModelConfig.from_json(json.dumps(values))


def test_a_dpt_round_trip():
    assert ModelConfig.from_json(DPT.to_json()) == DPT


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100000])
def test_not_an_object(text):
    with pytest.raises(CheckpointError):
        ModelConfig.from_json(text)
