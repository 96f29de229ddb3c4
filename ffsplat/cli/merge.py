"""`ffsplat merge`: scenes of one place, each in a world of its own, become one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options, printable
from ffsplat.cli.numbers import Within
from ffsplat.cli.writing import SceneOutput, format_options
from ffsplat.errors import SceneFileError, UsageError

if TYPE_CHECKING:
    from ffsplat.alignment import Similarity
    from ffsplat.edit import Merged, Placed
    from ffsplat.types import Scene

MAX_BYTES = 1 << 16
"""Size of a file with a transform."""

UNLIKE = 0.3
"""Correlation of shared photos in two scenes below which they are hardly the same photos."""


@click.command("merge", short_help=COMMANDS["merge"])
@click.argument("scenes", metavar="SCENE...", type=FILE, nargs=-1, required=True)
@click.option("-o", "--out", type=FILE, required=True, help="The scene to write.")
@format_options(hidden=True)
@click.option("--cameras", type=FILE, multiple=True,
              help="Cameras of each scene that has none, from `infer --cameras-out`.")  # fmt: skip
@click.option("--transform", "transforms", type=FILE, multiple=True,
              help="For each other scene, the file of its 4x4 similarity.")  # fmt: skip
@click.option("--same-world", is_flag=True, help="All are in one world: nothing moves.")
@click.option("--voxel", type=Within(0, min_open=True),
              help="Fuse Gaussians in cells of this side, in the first's units.")  # fmt: skip
@click.option("--cameras-out", type=FILE, help="Also write the cameras of all (JSON).")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@common_options
@click.pass_obj
def command(
    console: Console,
    scenes: tuple[Path, ...],
    out: Path,
    cameras: tuple[Path, ...],
    transforms: tuple[Path, ...],
    same_world: bool,
    voxel: float | None,
    cameras_out: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Join SCENEs in the world of the first, placed by the photos that they share."""
    from ffsplat.edit import merge
    from ffsplat.io import check_output, write_cameras

    _check_counts(scenes, transforms, same_world)
    output = SceneOutput.take(out, options, overwrite)
    output.check()
    if cameras_out:
        check_output(cameras_out, overwrite)
    given = _given_transforms(transforms, len(scenes) if same_world else 0)
    console.progress("reading the scenes")
    loaded = _loaded(scenes, cameras)
    if cameras_out and all(scene.cameras is None for scene in loaded):
        raise UsageError("there are no cameras to write", "give those of each scene (--cameras)")
    console.progress("joining the scenes")
    merged = merge(loaded, given, voxel)
    files = output.write(merged.scene)
    output.note(merged.scene, console)
    if cameras_out and merged.scene.cameras is not None:
        write_cameras(merged.scene.cameras, cameras_out, overwrite=overwrite)
        files.append(cameras_out)
    facts = _facts(scenes, loaded, merged, files)
    if as_json:
        console.json(facts)
    else:
        _show(console, facts)
    _warn(console, facts)


def _warn(console: Console, facts: dict[str, Any]) -> None:
    for one in facts["placed"]:
        alike = one["likeness"]
        if alike is not None and alike < UNLIKE:
            console.warning(
                f"the shared photos look different in {one['scene']} (correlation {alike:.2f}): "
                "are they the same photos?"
            )
    if dropped := facts["codebook"]["dropped"]:
        spaces = ", ".join(dropped)
        console.warning(f"text spaces that not all rows could be embedded in are gone: {spaces}")


def read_transform(path: Path) -> "Similarity":
    """A similarity from a file of four rows of four numbers, as JSON or as plain text.

    Raises SceneFileError for another file, UsageError for a matrix that is no similarity.
    """
    import numpy as np

    from ffsplat.edit import similarity_of
    from ffsplat.io.header import read_limited

    rows = _rows(read_limited(path, MAX_BYTES).decode("utf-8", "replace"))
    listed = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    if not listed or [len(row) for row in rows] != [4] * 4:
        raise SceneFileError(f"{path} is not four rows of four numbers, as JSON or as text")
    if not all(type(value) in (int, float) for row in rows for value in row):
        raise SceneFileError(f"{path} holds something else than numbers")
    try:
        return similarity_of(np.array(rows, np.float64))
    except OverflowError as error:
        raise SceneFileError(f"{path} holds a number that is too large") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}", error.hint) from error


def _rows(text: str) -> Any:
    """The JSON document, or the numbers of each line of a text; None for neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        lines = (line.replace(",", " ").split() for line in text.splitlines())
        return [[float(word) for word in words] for words in lines if words]
    except ValueError:
        return None


def _check_counts(scenes: Sequence[Path], transforms: Sequence[Path], same_world: bool) -> None:
    if len(scenes) < 2:
        raise UsageError("there is nothing to merge", "give two scenes or more")
    if transforms and same_world:
        raise UsageError("--transform moves what --same-world leaves where it is")
    if transforms and len(transforms) != len(scenes) - 1:
        raise UsageError(
            f"{len(transforms)} transforms for {len(scenes)} scenes",
            "give --transform once for each scene but the first, which stays where it is",
        )


def _given_transforms(paths: Sequence[Path], still: int) -> "list[Similarity] | None":
    """Transforms from files, or none at all for so many scenes, or None: photos tell them."""
    if paths:
        return [read_transform(path) for path in paths]
    if not still:
        return None
    from ffsplat.alignment import Similarity

    return [Similarity.identity()] * (still - 1)


def _loaded(scenes: Sequence[Path], cameras: Sequence[Path]) -> "list[Scene]":
    """The scenes with their cameras: those given for each, or for each that brings none."""
    from ffsplat.io import load_scene, read_cameras

    loaded = [load_scene(path) for path in scenes]
    if not cameras:
        return loaded
    lacking = [row for row, scene in enumerate(loaded) if scene.cameras is None]
    given = range(len(scenes)) if len(cameras) == len(scenes) else lacking
    if len(cameras) != len(given):
        raise UsageError(
            f"{len(cameras)} camera files for {len(scenes)} scenes",
            f"give --cameras once for each scene, or each of the {len(lacking)} without any",
        )
    for row, path in zip(given, cameras, strict=True):
        loaded[row] = replace(loaded[row], cameras=read_cameras(path))
    return loaded


def _facts(
    paths: Sequence[Path], scenes: "Sequence[Scene]", merged: "Merged", files: Sequence[Path]
) -> dict[str, Any]:
    """What was done as plain values."""
    scene = merged.scene
    placed = zip(paths[1:], merged.placed, strict=True)
    return {
        "files": [str(path) for path in files],
        "gaussians": {"scenes": [len(one) for one in scenes], "merged": len(scene)},
        "codebook": {
            "scenes": [0 if one.codebook is None else len(one.codebook) for one in scenes],
            "merged": 0 if scene.codebook is None else len(scene.codebook),
            "completed": list(merged.completed),
            "dropped": list(merged.dropped),
        },
        "placed": [_placement(path, one) for path, one in placed if one is not None],
    }


def _placement(path: Path, placed: "Placed") -> dict[str, Any]:
    import numpy as np

    return {
        "scene": str(path),
        "photos": list(placed.names),
        "left_out": list(placed.left_out),
        "scale": placed.similarity.scale,
        "scale_from": placed.scale_from,
        "degrees": float(np.degrees(np.median(placed.turns))),
        "distance": float(np.median(placed.shifts)),
        "depth": placed.depth,
        "likeness": placed.likeness,
    }


def _show(console: Console, facts: dict[str, Any]) -> None:
    gaussians, rows = facts["gaussians"], facts["codebook"]
    for one in facts["placed"]:
        out = f", {len(one['left_out'])} left out" if one["left_out"] else ""
        console.result(
            printable(
                f"{one['scene']}: by {len(one['photos'])} photos{out}, scale {one['scale']:.4g} "
                f"(by {one['scale_from']}), cameras off by {one['degrees']:.2g} degrees and "
                f"{one['distance'] / one['depth']:.2g} of the depth"
            )
        )
    counted = " + ".join(map(str, gaussians["scenes"]))
    console.result(f"Gaussians {counted} -> {gaussians['merged']}")
    console.result(f"rows {' + '.join(map(str, rows['scenes']))} -> {rows['merged']}")
    console.note(f"wrote {', '.join(facts['files'])}")
