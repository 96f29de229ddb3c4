"""`ffsplat stream` over a mapper that is none, and a video for it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from clips import write_clip
from command import Outcome, run
from small_room import small_room

from ffsplat.errors import StreamError
from ffsplat.stream.settings import MapperSettings
from tests.stream.mappers import StandIn

MODEL = {"model": "stand-in", "revision": "1", "license": "CC0-1.0"}


class Standing(StandIn):
    """A stand-in that also has a scene: a room, or nothing if no frame was used."""

    predictor = SimpleNamespace(provenance=MODEL)
    settings = MapperSettings(max_splats=1000)

    def answer(self, *answers):
        self.__init__(answers)

    def scene(self):
        if not self.keyframes:
            raise StreamError("nothing has been mapped yet")
        return small_room()

    def statistics(self):
        return {"splats": 10.0 * self.keyframes, "submaps": 1.0, "loops": 0.0}

    @classmethod
    def load(cls, path: Path, predictor, settings):
        assert (predictor, settings) == (cls.predictor, cls.settings)
        mapper = cls()
        mapper.keyframes = int(path.read_text())
        return mapper


@pytest.fixture
def mapper(monkeypatch):
    """The mapper that the command gets from whatever model it loads; it notes how it was asked."""
    mapper = Standing()
    mapper.options = {}

    def load(name, **options):
        mapper.options |= {"model": name, **options}
        return SimpleNamespace(stream=lambda **bounds: mapper.options.update(bounds) or mapper)

    monkeypatch.setattr("ffsplat.api.load", load)
    return mapper


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "walk.mp4", 12)


def stream(*arguments: object) -> Outcome:
    return run("stream", *arguments)


def rows(outcome: Outcome) -> dict[str, str]:
    return dict(line.split(None, 1) for line in outcome.out.splitlines())
