"""One process for all lives, as it takes seconds to begin."""

import pytest

from tests.stream.safety.lives import Nursery


@pytest.fixture(scope="session")
def nursery():
    """A process whose children are commands; one at a time."""
    with Nursery() as one:
        yield one
