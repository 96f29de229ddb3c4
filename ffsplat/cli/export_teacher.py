"""`ffsplat export-teacher`: a scene as a training set for per-scene optimisation."""

from dataclasses import replace
from pathlib import Path

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options, printable


@click.command("export-teacher", short_help=COMMANDS["export-teacher"])
@click.argument("scene", type=FILE)
@click.option("-o", "--out", type=FILE, required=True, help="A folder to write.")
@click.option("--cameras", type=FILE, help="Its views, from `infer --cameras-out`.")
@click.option("--images", type=FILE, help="The photos; without, the scene itself is rendered.")
@click.option("--space", default="", show_default=False,
              help="Text space of the features.  [default: the codebook's first]")  # fmt: skip
@click.option("--longest", type=click.IntRange(16, 8192), default=1080,
              help="Pixels of the longer side of a view at most.")  # fmt: skip
@click.option("--tracks/--no-tracks", default=True, help="Find which views see which points.")
@click.option("--codebook", type=FILE, help="The codebook of the scene, if not beside it.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@common_options
@click.pass_obj
def command(
    console: Console,
    scene: Path,
    out: Path,
    cameras: Path | None,
    images: Path | None,
    space: str,
    longest: int,
    tracks: bool,
    codebook: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the views of SCENE with codes and features, as LangSplat and gsplat read them.

    The folder has images, a COLMAP model, LangSplat's language_features, our code maps and the
    Gaussians. Train on it to refine the scene.
    """
    from ffsplat.formats import read_scene
    from ffsplat.formats.teacher import LANGSPLAT_SIZE, write_teacher
    from ffsplat.io import read_cameras

    console.progress("reading the scene")
    loaded = read_scene(scene, codebook=codebook)
    if cameras is not None:
        loaded = replace(loaded, cameras=read_cameras(cameras))
    console.progress("rendering codes")
    done = write_teacher(
        loaded,
        out,
        images=images,
        space=space,
        longest=longest,
        tracks=tracks,
        overwrite=overwrite,
    )
    if done.size != LANGSPLAT_SIZE:
        console.warning(
            f"features of {done.space} have {done.size} numbers,"
            f" LangSplat's autoencoder takes {LANGSPLAT_SIZE}"
        )
    if not done.photos:
        console.warning("images are renders of the scene; give the photos with --images")
    if as_json:
        console.json({"folder": str(done.folder), "views": done.views, "space": done.space})
        return
    console.note(printable(f"wrote {done.folder} ({done.views} views)"))
