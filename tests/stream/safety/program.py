"""`ffsplat stream` with a network that knows the truth, run as often as the parent asks for.

Each line of the input is a list of arguments (JSON); a child runs the command with them. All that
it says, and when it begins and ends, stands in the output. What is imported, rendered and compiled
is there already, so that a life begins in a moment.
"""

import json
import os
import resource
import sys
from types import SimpleNamespace
from typing import Any

import ffsplat.api
from ffsplat.cli import main
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.server import settings
from ffsplat.stream.settings import MapperSettings
from tests.stream.safety.stack import mapper, predictor, walk


def load(name: str, **_: Any) -> SimpleNamespace:
    """In place of `ffsplat.load`."""
    return SimpleNamespace(stream=lambda **bounds: Mapper(predictor(), MapperSettings(**bounds)))


def live(arguments: list[str], largest: int | None, limits: dict[str, Any]) -> None:
    """Be the command until its end; files may be `largest` bytes long.

    `limits` are settings of the server for which the command has no options.
    """
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    plain = settings.ServerSettings
    settings.ServerSettings = lambda **options: plain(**options, **limits)  # type: ignore[misc]
    sys.argv = ["ffsplat", *arguments]
    os._exit(main())


def say(**facts: object) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    ffsplat.api.load = load
    mapper().warm()
    one = mapper()
    for frame in walk().frames(stop=30):
        one.add(frame.image, frame.time_ns, number=frame.number)
    say(ready=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            live(**order)
        say(child=child)
        _, status = os.waitpid(child, 0)
        say(dead=child, code=os.waitstatus_to_exitcode(status))
