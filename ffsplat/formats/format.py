"""What a format is: one row of the table, and what a file may carry."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

RANGES = {
    "scales": "scales",
    "colors": "colours",
    "sh": "SH above degree 0",
}
"""What a format may hold only within bounds, and how it is called: linear scales, colours seen
without direction (0 black, 1 white), and coefficients of the harmonics."""

TRAITS = {
    "shapes": "scales, rotations and opacities",
    "sh": "colours that change with the direction",
    "codes": "codes",
    "codebook": "the codebook",
    "instances": "instances",
    "meaning": "opacities of meaning",
    "cameras": "cameras",
    "provenance": "model and licence",
    "metric": "that its unit is the metre",
}
"""What a format may carry beside positions and colours, and how it is called."""


@dataclass(frozen=True)
class Option:
    """An option of a format's `write`, which `ffsplat convert` offers as `--<name>`.

    `choices` are all values allowed; without them it is a value of the type of `default`.
    """

    name: str
    default: str | int | float | bool
    help: str
    choices: tuple[str, ...] = ()

    @property
    def keyword(self) -> str:
        """The name as an argument of `write`."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Format:
    """One row: how files of this kind are known, who reads and writes them, what they carry.

    `suffixes` end the name of such a file, the usual one first; none for a folder. `mark` stands
    in the first 64 KiB where other formats have the same suffix; a folder has one of `members`.
    `carries` holds keys of TRAITS; "sh" up to `sh_degree`. `precision` says what is rounded, ""
    where every float32 stays, but for its logarithm; `code_precision` does for codes alone, and
    `ranges` what is cut off. `sidecar`: `read` takes `codebook=`, a file beside it; `beside`
    are the names of other files that are written with it. `source` is the specification.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    module: str
    reads: bool
    writes: bool
    carries: frozenset[str]
    precision: str = ""
    code_precision: str = ""
    sh_degree: int = 3
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    mark: bytes = b""
    members: tuple[str, ...] = ()
    sidecar: bool = False
    beside: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    source: str = ""

    def is_folder(self, path: Path) -> bool:
        """Whether what is written there is a folder: always, or where files have another ending."""
        endings = tuple(Path(suffix).suffix for suffix in self.suffixes)
        return not endings or (bool(self.members) and not path.name.lower().endswith(endings))

    def load(self) -> ModuleType:
        """The module that reads and writes this format."""
        return importlib.import_module(self.module)
