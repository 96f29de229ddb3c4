"""`ffsplat infer`: photos in, semantic splat out."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options, printable
from ffsplat.cli.environment import silence_downloads
from ffsplat.cli.failures import SKIPPED
from ffsplat.cli.loading import LOADING, loading_options
from ffsplat.cli.numbers import Within
from ffsplat.cli.writing import SceneOutput, format_options
from ffsplat.errors import UsageError

if TYPE_CHECKING:
    from ffsplat.api import InferResult, Model

COUNT = click.IntRange(min=1)
MAX_LISTED = 5
"""The warning names this many photos and counts the others; `--json` names all."""


@click.command("infer", short_help=COMMANDS["infer"])
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    type=FILE,
    required=True,
    help="The scene to write; its name says how: scene.ply, .html, .glb ...",
)
@loading_options
@click.option("--resolution", type=COUNT, help="Longer side for the network, in pixels.")
@click.option("--max-views", type=COUNT, help="Use so many of the photos, evenly spaced.")
@click.option("--chunk-views", type=click.IntRange(min=2),
              help="Photos that go through the network together, at most.")  # fmt: skip
@click.option("--max-megapixels", type=Within(0, 178, min_open=True), default=64,
              help="Refuse larger photos; Pillow reads none beyond 178.")  # fmt: skip
@click.option("--on-error", type=click.Choice(["skip", "fail"]), default="skip",
              help="What to do about a photo that cannot be read.")  # fmt: skip
@click.option("--topk", type=click.IntRange(1, 16), default=4, help="Codes of a Gaussian.")
@click.option("--hard-ids", is_flag=True,
              help="One codebook row an object, where meaning is lifted (+clip).")  # fmt: skip
@click.option("--sam2", type=FILE, help="Lift meaning within masks of SAM 2, by these weights.")
@click.option("--voxel", type=Within(min=0, min_open=True),
              help="Merge Gaussians in cells of this side, in world units.")  # fmt: skip
@click.option("--max-gaussians", type=COUNT, help="Keep at most so many Gaussians.")
@click.option("--min-confidence", type=Within(0, 1), help="Drop pixels less sure.")
@click.option("--ply-profile", type=click.Choice(["ffsplat", "plain", "inria"]),
              help="PLY with codes, without, or laid out as 3DGS training does.  "
                   "[default: ffsplat]")  # fmt: skip
@format_options(own=("ply-profile",), hidden=True)
@click.option("--cameras-out", type=FILE, help="Also write the cameras (JSON).")
@click.option("--depth-out", type=FILE, help="Also write depth: a folder for PNG, or a .npz file.")
@click.option("--overwrite", is_flag=True, help="Replace those files if they exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@common_options
@click.pass_obj
def command(console: Console, inputs: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Turn photos of a place into a Gaussian splat that knows what is where.

    INPUT is a photo, a folder of photos, or a quoted pattern such as "photos/*.jpg".
    """
    overwrite = options.pop("overwrite")
    output = SceneOutput.take(options.pop("out"), options, overwrite)
    files = {name: options.pop(name) for name in ("cameras_out", "depth_out")}
    _refuse_early(inputs, output, files)
    loading = {name: options.pop(name) for name in LOADING}
    sam2 = options.pop("sam2")
    if console.quiet or as_json:
        silence_downloads()

    console.progress("loading the network")
    start = time.perf_counter()
    from ffsplat.api import load

    model = load(loading.pop("model"), **loading)
    if sam2:
        _use_masks(model, sam2)
    loaded = time.perf_counter()
    console.progress("turning photos into a scene")
    given = {name: value for name, value in options.items() if value is not None}
    result = model.infer_with_report(list(inputs), **given)
    _warn(console, result)

    console.progress("writing the scene")
    inferred = time.perf_counter()
    written = _write(result, output, files)
    output.note(result.scene, console)
    seconds = {
        "load": loaded - start,
        **result.report.seconds,
        "write": time.perf_counter() - inferred,
    }
    facts = _facts(result, seconds, written)
    if as_json:
        console.json(facts)
    elif not console.quiet:
        _show(console, facts)
    return SKIPPED if result.report.skipped else 0


def _use_masks(model: "Model", weights: Path) -> None:
    """Let SAM 2 say what is one thing, where meaning is lifted."""
    from ffsplat.semantics.masks import sam2_of_file

    if model.dense is None:
        raise UsageError("masks are of use where meaning is lifted", "add +clip to --model")
    model.masks = sam2_of_file(weights, str(model.device))


def _refuse_early(
    inputs: tuple[str, ...], output: SceneOutput, files: dict[str, Path | None]
) -> None:
    """Find out what is wrong with the names of files before seconds go into importing torch."""
    from ffsplat.images import find_images
    from ffsplat.io import check_output
    from ffsplat.io.depth import check_depth_output, depth_outputs

    output.check()
    paths, cameras_out, depth_out = output.files, files["cameras_out"], files["depth_out"]
    if cameras_out:
        check_output(cameras_out, output.overwrite)
        paths.append(cameras_out)
    photos = find_images(inputs)
    if depth_out:
        check_depth_output(depth_out, len(photos), output.overwrite)
        paths += depth_outputs(depth_out, len(photos))
    _refuse_double_use(photos, paths)


def _refuse_double_use(photos: list[Path], outputs: list[Path]) -> None:
    """No output may replace a photo or another output, not even with `--overwrite`."""
    uses = {os.path.realpath(photo): "one of the photos" for photo in photos}
    for output in outputs:
        place = os.path.realpath(output)
        if place in uses:
            raise UsageError(f"{output} is {uses[place]}", "give each output a name of its own")
        uses[place] = "also another output"


def _warn(console: Console, result: "InferResult") -> None:
    report = result.report
    for text in report.warnings:
        console.warning(text)
    skipped = report.skipped
    if not skipped:
        return
    listed = [f"{one.name} ({one.reason})" for one in skipped[:MAX_LISTED]]
    if len(skipped) > MAX_LISTED:
        listed.append(f"and {len(skipped) - MAX_LISTED} more")
    total = len(skipped) + len(report.views)
    console.warning(f"skipped {len(skipped)} of {total} images: {', '.join(listed)}")
    for hint in sorted({one.hint for one in skipped if one.hint}):
        console.note(f"hint: {hint}")


def _write(result: "InferResult", output: SceneOutput, files: dict[str, Path | None]) -> list[Path]:
    """Write the scene and what else was asked for; the files, or the folder, that were written."""
    import numpy as np

    from ffsplat.io import write_cameras
    from ffsplat.io.depth import write_depth

    scene, report = result.scene, result.report
    cameras_out, depth_out = files["cameras_out"], files["depth_out"]
    overwrite, written = output.overwrite, output.write(scene)
    if cameras_out and scene.cameras:
        write_cameras(scene.cameras, cameras_out, overwrite=overwrite)
        written.append(cameras_out)
    if depth_out:
        depth = report.depth * report.views.valid
        names = tuple(source.name for source in report.views.sources)
        originals = np.stack([source.original_from_view for source in report.views.sources])
        write_depth(
            depth,
            names,
            depth_out,
            metric=scene.metric,
            original_from_view=originals,
            overwrite=overwrite,
        )
        written.append(depth_out)
    return written


def _facts(result: "InferResult", seconds: dict[str, float], written: list[Path]) -> dict[str, Any]:
    """The summary as plain values."""
    from ffsplat.query import most_common

    scene, report = result.scene, result.report
    seen = [] if scene.codes is None else most_common(scene)
    return {
        "files": [str(path) for path in written],
        "gaussians": len(scene),
        "views": [source.name for source in report.views.sources],
        "passes": [{"agreement": round(one.agreement, 3)} for one in report.passes],
        "skipped": [{"name": one.name, "reason": one.reason} for one in report.skipped],
        "warnings": list(report.warnings),
        "seen": [{"name": name, "share": share} for name, share in seen if name],
        "codebook": 0 if scene.codebook is None else len(scene.codebook),
        "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
        "metric": scene.metric,
        "model": dict(scene.provenance),
    }


def _show(console: Console, facts: dict[str, Any]) -> None:
    used, skipped, model = len(facts["views"]), len(facts["skipped"]), facts["model"]
    seen = [f"{one['name']} {one['share']:.0%}" for one in facts["seen"]]
    times = [f"{stage} {seconds:.2f} s" for stage, seconds in facts["seconds"].items()]
    passes = len(facts["passes"])
    rows = {
        "views": f"{used} used, {skipped} skipped" + (f", {passes} passes" if passes > 1 else ""),
        "Gaussians": f"{facts['gaussians']}",
        "seen": ", ".join(seen) or _unnamed(facts["codebook"]),
        "time": ", ".join([*times, f"all {sum(facts['seconds'].values()):.2f} s"]),
        "model": f"{model['model']} ({model['revision']}), licence {model['license']}",
        "written": ", ".join(facts["files"]),
    }
    for name, text in rows.items():
        console.result(printable(f"{name:<10} {text}"))


def _unnamed(rows: int) -> str:
    """What to say where no codebook row has a name."""
    return f"{rows} kinds without a name: ask by ffsplat query" if rows else "nothing"
