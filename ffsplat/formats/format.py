"""What a format is: one row of the table, and what a file may carry."""

import importlib
from dataclasses import dataclass
from types import ModuleType

TRAITS = {
    "shapes": "scales, rotations and opacities",
    "sh": "colours that change with the direction",
    "codes": "codes",
    "codebook": "the codebook",
    "instances": "instances",
    "meaning": "opacities of meaning",
    "cameras": "cameras",
    "provenance": "model and licence",
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
    in the first 64 KiB where other formats have the same suffix; of a folder it is the name of
    a file in it. `carries` holds keys of TRAITS; "sh" up to `sh_degree`. `precision` says what is
    rounded, "" where every float32 stays; `code_precision` does for codes alone.
    `sidecar`: `read` takes `codebook=`, a file beside it. `source` is the specification.
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
    mark: bytes = b""
    sidecar: bool = False
    options: tuple[Option, ...] = ()
    source: str = ""

    def load(self) -> ModuleType:
        """The module that reads and writes this format."""
        return importlib.import_module(self.module)
