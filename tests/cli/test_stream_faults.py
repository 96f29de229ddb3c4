"""What of a stream fails at its start: one error, one hint, and an end."""

import pytest

from tests.cli.standing import stream


@pytest.mark.parametrize(
    "options", [["CLIP", "--out", "s.ply"], ["CLIP", "--serve"], ["--serve"]], ids=" ".join
)
def test_a_network_that_cannot_be_run_ends_the_stream(mapper, clip, tmp_path, monkeypatch, options):
    def fail():
        raise RuntimeError("cold")

    mapper.warm = fail
    monkeypatch.chdir(tmp_path)
    outcome = stream(*[clip if word == "CLIP" else word for word in options], "--port", 0)
    assert outcome.code == 1
    error, hint = outcome.err.splitlines()[-2:]
    assert error == "error: the network cannot be run: RuntimeError: cold"
    assert hint.startswith("hint: --debug shows where")
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == [clip]
