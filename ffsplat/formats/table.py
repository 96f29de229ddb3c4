"""The table of files that a scene can be read from or handed on as. One row a format.

A row names a module, which is imported when the format is used; the module has
`read(path) -> Scene` where the row reads, and `write(scene, path, *, overwrite=False, **options)`
where it writes. `ffsplat convert` and `ffsplat.io.load_scene` know formats from here alone.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ffsplat.errors import SceneFileError, UsageError
from ffsplat.io.header import open_regular
from ffsplat.types import Scene

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

HEAD = 1 << 16
"""Bytes at the start of a file in which the mark of a format is looked for."""


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
    in the first HEAD bytes where other formats have the same suffix; of a folder it is the name of
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


def _rows(*formats: Format) -> dict[str, Format]:
    return {format_.name: format_ for format_ in formats}


_MEANING = frozenset({"codes", "codebook", "instances", "meaning", "provenance"})
_SPLAT = frozenset({"shapes", "sh"})

_CAMERAS = Option("cameras", "", "Views to use, from infer --cameras-out.")

FORMATS = _rows(
    Format(
        name="ply",
        summary="3DGS PLY, codes as extra columns, codebook beside it",
        suffixes=(".ply",),
        module="ffsplat.formats.ply",
        reads=True,
        writes=True,
        carries=_SPLAT | _MEANING,
        sidecar=True,
        options=(
            Option(
                "ply-profile",
                "ffsplat",
                "Everything; no columns of ours; or the 62 columns of the INRIA viewer.",
                ("ffsplat", "plain", "inria"),
            ),
        ),
        source="Kerbl et al. 2023, reference exporter",
    ),
    Format(
        name="colmap",
        summary="COLMAP model: a folder of cameras, views and points",
        suffixes=(),
        module="ffsplat.formats.colmap",
        reads=True,
        writes=True,
        carries=frozenset({"cameras"}),
        precision="colours in 8 bits",
        options=(
            _CAMERAS,
            Option("colmap-files", "bin", "Binary or text files.", ("bin", "txt")),
            Option("min-opacity", 0.1, "Gaussians from this opacity on become points."),
            Option("tracks", True, "Find out which views see which points."),
        ),
        source="colmap/colmap, doc/format.rst",
    ),
)
"""Every format by name. Rows are added here."""


def format_named(name: str) -> Format:
    """The row of that name; UsageError lists the names."""
    if name not in FORMATS:
        raise UsageError(f"there is no format {name!r}", f"formats: {', '.join(FORMATS)}")
    return FORMATS[name]


def format_to_write(path: str | Path, name: str | None = None) -> Format:
    """The format that a path is written in: as named, or the one whose suffix fits best.

    Raises UsageError where no format fits, or the format is only read.
    """
    if name is not None:
        chosen = format_named(name)
    else:
        fitting = _by_suffix(Path(path).name, "writes")
        if not fitting:
            known = " ".join(f.suffixes[0] for f in FORMATS.values() if f.writes and f.suffixes)
            raise UsageError(
                f"no format is known for the name {Path(path).name}",
                f"give --to, or a name that ends in {known}",
            )
        chosen = fitting[0]
    if not chosen.writes:
        raise UsageError(f"{chosen.name} is read, but not written")
    return chosen


def format_to_read(path: str | Path, name: str | None = None) -> Format:
    """The format of a file: as named, or by its suffix, its mark where several share that.

    A name without a known suffix is taken for a PLY. Raises UsageError where the format is only
    written, SceneFileError if the file cannot be opened.
    """
    if name is not None:
        chosen = format_named(name)
        if not chosen.reads:
            raise UsageError(f"{chosen.name} is written, but not read")
        return chosen
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    fitting = _by_suffix(path.name, "reads")
    if not fitting:
        written = _by_suffix(path.name, "writes")
        if written:
            raise UsageError(f"{path.name}: {written[0].name} is written, but not read")
        return FORMATS["ply"]
    if len(fitting) > 1:
        with open_regular(path) as file:
            head = file.read(HEAD)
        fitting = [f for f in fitting if f.mark and f.mark in head] or [
            f for f in fitting if not f.mark
        ]
    if not fitting:
        raise SceneFileError(f"{path} is in no format that is known", "name it with --from")
    return fitting[0]


def _of_folder(path: Path) -> Format:
    for format_ in FORMATS.values():
        mark = format_.mark.decode()
        if format_.reads and not format_.suffixes and mark and (path / mark).exists():
            return format_
    raise SceneFileError(f"{path} is a folder in no format that is known", "name it with --from")


def _by_suffix(name: str, ability: str) -> list[Format]:
    """Formats that can, and end in the longest suffix of this name that any has.

    For reading, all whose suffix fits, since content decides: `a.compressed.ply` may be a PLY.
    """
    lower = name.lower()
    fitting = {
        format_.name: max((len(s) for s in format_.suffixes if lower.endswith(s)), default=0)
        for format_ in FORMATS.values()
        if getattr(format_, ability)
    }
    longest = max(fitting.values(), default=0)
    floor = longest if ability == "writes" else 1
    return [FORMATS[f] for f, size in fitting.items() if longest and size >= floor]


def read_scene(
    path: str | Path, *, format_: str | None = None, codebook: str | Path | None = None
) -> Scene:
    """Read a scene in any known format; `codebook` where the format keeps it beside the file.

    Raises SceneFileError naming what is wrong with the file, UsageError for a wrong argument.
    """
    row = format_to_read(path, format_)
    if row.sidecar:
        return row.load().read(path, codebook=codebook)
    if codebook is not None:
        raise UsageError(f"a codebook beside the file means nothing to {row.name}")
    return row.load().read(path)


def write_scene(
    scene: Scene,
    path: str | Path,
    *,
    format_: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Format:
    """Write a scene in the format of the path's suffix, or the named one; returns its row.

    Raises OutputError as `ffsplat.io.atomic_output`, UsageError for an option that is not the
    format's.
    """
    row = format_to_write(path, format_)
    unknown = sorted(set(options) - {option.keyword for option in row.options})
    if unknown:
        raise UsageError(f"{row.name} has no option {unknown[0].replace('_', '-')}")
    row.load().write(scene, path, overwrite=overwrite, **options)
    return row


def lost(scene: Scene, format_: Format) -> list[str]:
    """What this scene has and the format does not carry, one phrase each; empty for no loss."""
    has = {
        "shapes": True,
        "sh": scene.gaussians.sh.shape[1] > 1,
        "codes": scene.codes is not None,
        "codebook": scene.codebook is not None,
        "instances": scene.instances is not None,
        "meaning": scene.gaussians.meaning_opacities is not None,
        "cameras": scene.cameras is not None,
        "provenance": bool(scene.provenance),
    }
    phrases = [TRAITS[trait] for trait in TRAITS if has[trait] and trait not in format_.carries]
    degree = {1: 0, 4: 1, 9: 2, 16: 3}.get(scene.gaussians.sh.shape[1], 3)
    if "sh" in format_.carries and degree > format_.sh_degree:
        phrases.append(f"SH above degree {format_.sh_degree}")
    if format_.precision:
        phrases.append(f"full precision ({format_.precision})")
    if scene.codes is not None and format_.code_precision:
        phrases.append(f"every bit of the codes ({format_.code_precision})")
    return phrases
