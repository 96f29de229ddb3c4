"""Numbers on the command line: within their bounds, and numbers."""

import click
import pytest

from ffsplat.cli.numbers import Within


@pytest.mark.parametrize("text", ["0.5", "1e-3", "2", "inf"])
def test_numbers_are_taken(text):
    assert Within(0, min_open=True)(text) == float(text)


@pytest.mark.parametrize("text", ["nan", "-nan", "NaN", "0", "-1", "-inf", "", "1,5", "two"])
def test_what_is_none_or_out_of_bounds_is_refused(text):
    with pytest.raises(click.BadParameter):
        Within(0, min_open=True)(text)
