"""`ffsplat render`: a scene as an image, an orbit or a figure sheet."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options
from ffsplat.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from ffsplat.render.painting import Painter
    from ffsplat.types import Cameras, Scene

KINDS = ("rgb", "depth", "opacity", "codes", "instance", "query")
MAX_SIDE = 8192
MAX_QUERIES = 32
SIZE, SHEET_WIDTH = (640, 480), 320
"""Pixels of a picture, and across a picture of a sheet, unless --size says otherwise."""


class Size(click.ParamType):
    """WIDTHxHEIGHT in pixels."""

    name = "WxH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parse such as 640x480."""
        match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", str(value))
        size = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(1 <= side <= MAX_SIDE for side in size):
            self.fail(f"{value!r} is not a size such as 640x480 (at most {MAX_SIDE})", param, ctx)
        return size


@click.command("render", short_help=COMMANDS["render"])
@click.argument("scene", type=FILE)
@click.option("-o", "--out", type=FILE,
              help="A .png or .jpg image; or an orbit as .webp, .gif or .mp4.")  # fmt: skip
@click.option("--sheet", type=FILE,
              help="A .png or .jpg with photos, views, depth, codes and queries.")  # fmt: skip
@click.option("--what", type=click.Choice(KINDS), help="What to draw.  [default: rgb]")
@click.option("--query", "texts", metavar="TEXT", multiple=True,
              help="Draw how well everything matches this text, as heat.")  # fmt: skip
@click.option("--strategy", help="How texts are compared, as in `ffsplat query`.")
@click.option("--level", type=click.Choice(["whole", "part", "subpart"]), default="whole",
              help="Which codes to draw: things, parts, or parts of parts.")  # fmt: skip
@click.option("--opacity", type=click.Choice(["color", "meaning"]), default="meaning",
              help="What blends codes, instances and scores, if both differ.")  # fmt: skip
@click.option("--cameras", type=FILE, help="Input cameras, from `infer --cameras-out`.")
@click.option("--photos", type=FILE, help="The folder of the photos, for a sheet.")
@click.option("--brief", is_flag=True,
              help="A sheet of two rows: photos, and all else from one new place.")  # fmt: skip
@click.option("--columns", type=click.IntRange(1, 16), default=4, help="Views of a sheet.")
@click.option("--view", type=click.IntRange(min=0), help="Draw from this one of them.")
@click.option("--frames", type=click.IntRange(1, 10_000), default=60, help="Length of the orbit.")
@click.option("--size", type=Size(),
              help="Size of a picture.  [default: 640x480; 320 wide on a sheet]")  # fmt: skip
@click.option("--backend", type=click.Choice(["auto", "cpu", "reference", "gsplat"]),
              default="auto", help="What draws: gsplat on CUDA, or the CPU.")  # fmt: skip
@click.option("--codebook", type=FILE, help="The codebook of the scene, if not beside it.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@common_options
@click.pass_obj
def command(
    console: Console,
    scene: Path,
    out: Path | None,
    sheet: Path | None,
    texts: tuple[str, ...],
    cameras: Path | None,
    codebook: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw SCENE from the first photo's place, from an input camera, or along an orbit.

    A sheet shows it from several input cameras, or without them along an orbit.
    """
    from ffsplat.io import check_output, load_scene, read_cameras
    from ffsplat.render.painting import Painter
    from ffsplat.text import counted

    file = _the_output(out, sheet)
    _check(file, sheet is not None, texts, options)
    check_output(file, overwrite)
    console.progress("reading the scene")
    loaded = load_scene(scene, codebook)
    if cameras:
        loaded = replace(loaded, cameras=read_cameras(cameras))
    drawing = {key: options[key] for key in ("level", "opacity", "backend")}
    painter = Painter(loaded, drawing, console.progress)
    draw = _sheet if sheet else _picture
    facts = draw(painter, file, texts, options, overwrite)
    if as_json:
        console.json({"file": str(file), **facts})
    else:
        frames = f" ({counted(facts['frames'], 'frame')})" if _animated(file) else ""
        console.note(f"wrote {file}{frames}")


def _the_output(out: Path | None, sheet: Path | None) -> Path:
    file = sheet or out
    if file is None or (out and sheet):
        raise UsageError("give one of --out and --sheet", "--out a.png, or --sheet figure.png")
    return file


def _animated(file: Path) -> bool:
    from ffsplat.cli.pictures import is_animation

    return is_animation(file)


def _check(file: Path, sheet: bool, texts: tuple[str, ...], options: dict[str, Any]) -> None:
    """Refuse options that do not go together; set what is drawn."""
    if sheet:
        if _animated(file):
            raise UsageError("a sheet is one image", "end its name in .png or .jpg")
        if options["what"] or options["view"] is not None:
            raise UsageError("a sheet shows everything", "leave out --what and --view")
        if len(texts) > MAX_QUERIES:
            raise UsageError(
                f"{len(texts)} queries, a sheet has at most {MAX_QUERIES}", "draw several sheets"
            )
        return
    for name in ("photos", "brief"):
        if options[name]:
            raise UsageError(f"--{name} is for a sheet", "--sheet figure.png in place of --out")
    options["what"] = options["what"] or ("query" if texts else "rgb")
    if (options["what"] == "query") != (len(texts) == 1):
        raise UsageError("--what query and one --query TEXT belong together")


def _picture(
    painter: "Painter", file: Path, texts: tuple[str, ...], options: dict[str, Any], overwrite: bool
) -> dict[str, Any]:
    """Draw one view or an orbit."""
    from ffsplat.cli.pictures import save_picture
    from ffsplat.cli.viewpoints import camera_path

    frames = options["frames"] if _animated(file) else None
    path = camera_path(painter.scene, options["view"], frames, options["size"] or SIZE)
    text = texts[0] if texts else None
    frames_drawn = _paint(painter, options["what"], text, options["strategy"], path)
    save_picture(frames_drawn, file, overwrite)
    return {"what": options["what"], "query": text, "frames": len(path)}


def _paint(
    painter: "Painter", what: Any, text: str | None, strategy: str | None, path: "Cameras"
) -> "Iterator[np.ndarray]":
    """One picture a camera."""
    if what in ("codes", "instance"):
        return painter.with_legend(what, path)
    if text is None:
        return painter.plain(what, path)
    from ffsplat.query import query

    return painter.heat(query(painter.scene, text, strategy=strategy), path)


def _sheet(
    painter: "Painter", file: Path, texts: tuple[str, ...], options: dict[str, Any], overwrite: bool
) -> dict[str, Any]:
    """Draw all that there is to see, in rows."""
    from ffsplat.cli.figure import Figure
    from ffsplat.cli.pictures import save_picture
    from ffsplat.render.sheet import sheet

    size = options["size"] or _tile_of(painter.scene)
    figure = Figure(painter, size, options["columns"], texts, options["strategy"])
    rows = (figure.brief if options["brief"] else figure.rows)(options["photos"])
    title, footer = figure.title(), figure.footer()
    save_picture(iter([sheet(rows, title, footer)]), file, overwrite)
    return {"rows": [row.label for row in rows], "views": list(figure.cameras.names)}


def _tile_of(scene: "Scene") -> tuple[int, int]:
    """SHEET_WIDTH across, and of the shape that most cameras' images have."""
    if scene.cameras is None or not len(scene.cameras):
        return SHEET_WIDTH, SHEET_WIDTH * SIZE[1] // SIZE[0]
    shapes = sorted(height / width for width, height in scene.cameras.sizes.tolist())
    return SHEET_WIDTH, min(max(1, round(SHEET_WIDTH * shapes[(len(shapes) - 1) // 2])), MAX_SIDE)
