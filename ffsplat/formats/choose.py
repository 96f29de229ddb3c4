"""Which format a path means; read and write a scene in it; say what it cannot carry."""

from pathlib import Path
from typing import Any

from ffsplat.errors import SceneFileError, UsageError
from ffsplat.formats.format import RANGES, TRAITS, Format
from ffsplat.formats.table import FORMATS
from ffsplat.io.codebook_file import sidecar_path
from ffsplat.io.header import open_regular
from ffsplat.types import SH_C0, Scene

HEAD = 1 << 16
"""Bytes at the start of a file in which the mark of a format is looked for."""


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

    A name without a known suffix may be that of a PLY. Raises UsageError where the format is only
    written, SceneFileError if the file cannot be opened or is in no format that is known.
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
        if not _head(path).startswith(b"ply"):
            raise SceneFileError(
                f"{path} is not a PLY file, and its name ends as in no other format",
                "ffsplat convert --list has the endings, and --from takes the name of a format",
            )
        return FORMATS["ply"]
    if len(fitting) > 1:
        head = _head(path)
        fitting = [f for f in fitting if f.mark and f.mark in head] or [
            f for f in fitting if not f.mark
        ]
    if not fitting:
        raise SceneFileError(f"{path} is in no format that is known", "name it with --from")
    return fitting[0]


def _head(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read(HEAD)


def _of_folder(path: Path) -> Format:
    for format_ in FORMATS.values():
        if format_.reads and any((path / member).is_file() for member in format_.members):
            return format_
    known = ", ".join(f.name for f in FORMATS.values() if f.reads and f.members)
    raise SceneFileError(
        f"{path} is a folder in no format that is read", f"folders are read as {known}"
    )


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


def output_files(path: str | Path, format_: Format, **options: Any) -> list[Path]:
    """The files that `write_scene` may write for a path, the scene first; a folder as such."""
    path = Path(path)
    if format_.is_folder(path):
        return [path]
    if format_.sidecar and options.get("ply_profile", "ffsplat") == "ffsplat":
        return [path, sidecar_path(path)]
    return [path, *(path.with_name(name) for name in format_.beside)]


def scene_files(path: str | Path, format_: Format) -> list[Path]:
    """The files that a scene of this format is read from; a folder may hold others, such as photos.

    They lie beside the member that marks the folder and end as it does, or have a name of `beside`.
    """
    path = Path(path)
    mark = next((path / name for name in format_.members if (path / name).is_file()), None)
    if mark is None:
        return [path]
    beside = [mark.with_name(name) for name in format_.beside]
    return [*sorted(mark.parent.glob(f"*{mark.suffix}")), *(one for one in beside if one.is_file())]


def is_codebook(path: str | Path) -> bool:
    """Whether a file is a codebook by its name, and not a scene that is marked as one."""
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        return False
    with open_regular(path) as file:
        return FORMATS["safetensors"].mark not in file.read(HEAD)


def lost(scene: Scene, format_: Format, **options: Any) -> list[str]:
    """What this scene has and the format does not carry, one phrase each; empty for no loss.

    `options` are those of `write_scene`, some of which leave out more.
    """
    has = {
        "shapes": True,
        "sh": scene.gaussians.sh.shape[1] > 1,
        "codes": scene.codes is not None,
        "codebook": scene.codebook is not None,
        "instances": scene.instances is not None,
        "meaning": scene.gaussians.meaning_opacities is not None,
        "cameras": scene.cameras is not None,
        "provenance": bool(scene.provenance),
        "metric": scene.metric,
    }
    carries = format_.carries
    if options.get("ply_profile", "ffsplat") != "ffsplat":
        carries = frozenset({"shapes", "sh"})
    phrases = [TRAITS[trait] for trait in TRAITS if has[trait] and trait not in carries]
    degree = {1: 0, 4: 1, 9: 2, 16: 3}.get(scene.gaussians.sh.shape[1], 3)
    if "sh" in carries and degree > format_.sh_degree:
        phrases.append(f"SH above degree {format_.sh_degree}")
    phrases += _left_out(scene, format_, options)
    if format_.precision:
        phrases.append(f"precision beyond {format_.precision}")
    if scene.codes is not None and format_.code_precision:
        phrases.append(f"precision beyond {format_.code_precision}")
    return phrases


def _left_out(scene: Scene, format_: Format, options: dict[str, Any]) -> list[str]:
    """Gaussians that do not become points, and values that are cut off, with their numbers."""
    gaussians, phrases = scene.gaussians, []
    defaults = {option.keyword: option.default for option in format_.options}
    if "min_opacity" in defaults:
        limit = float(options.get("min_opacity", defaults["min_opacity"]))
        if faint := int((gaussians.opacities < limit).sum()):
            phrases.append(f"{faint} Gaussians below opacity {limit:g}")
    values = {
        "scales": gaussians.scales,
        "colors": 0.5 + SH_C0 * gaussians.sh[:, 0],
        "sh": gaussians.sh[:, 1:],
    }
    for name, (low, high) in format_.ranges.items():
        outside = (values[name] < low) | (values[name] > high)
        if count := int(outside.reshape(len(scene), -1).any(axis=1).sum()):
            phrases.append(f"{RANGES[name]} outside of {low:.2g}..{high:.2g} ({count} Gaussians)")
    return phrases
