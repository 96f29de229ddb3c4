"""Engines that are stopped in the end."""

import pytest

from ffsplat.stream.engine.engine import Engine, EngineSettings
from tests.stream.mappers import StandIn


@pytest.fixture
def run():
    """Make engines that run, and stop them in the end."""
    engines = []

    def start(mapper: StandIn, **settings) -> Engine:
        engines.append(Engine(mapper, EngineSettings(**settings)))
        engines[-1].start()
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop(5.0)
