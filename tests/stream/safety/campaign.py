"""All that was asked of a stream's safety, at full size: `python -m tests.stream.safety.campaign`.

Prints a table: what was asked, and what was found. Arguments choose themes, all without any.
"""

import importlib
import inspect
import sys

from tests.stream.safety.figures import Figure
from tests.stream.safety.lives import Nursery

THEMES = ("sizes", "slow", "malformed", "doors", "floods", "faults", "restarts", "watch", "kills")


def theme(name: str, nursery: Nursery) -> list[Figure]:
    """The figures of one file."""
    figures = importlib.import_module(f"tests.stream.safety.test_{name}").figures
    return figures(nursery) if inspect.signature(figures).parameters else figures()


def main() -> int:
    """Print the table; 1 if something does not hold."""
    failed = 0
    with Nursery() as nursery:
        for name in sys.argv[1:] or THEMES:
            for figure in theme(name, nursery):
                print(figure, flush=True)
                failed += not figure.holds
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
