"""`ffsplat render`: a scene as an image or an orbit, in colour or in what it means."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options
from ffsplat.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from ffsplat.types import Cameras, Scene

KINDS = ("rgb", "depth", "opacity", "codes", "instance", "query")
MAX_SIDE = 8192
FIELD_OF_VIEW = 60.0
"""Horizontal, in degrees, where no camera says otherwise."""


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
@click.option("-o", "--out", type=FILE, required=True,
              help="A .png or .jpg image; or an orbit as .webp, .gif or .mp4.")  # fmt: skip
@click.option("--what", type=click.Choice(KINDS), help="What to draw.  [default: rgb]")
@click.option("--query", "text", help="Draw how well everything matches this text, as heat.")
@click.option("--level", type=click.Choice(["whole", "part"]), default="whole",
              help="Which codes to draw.")  # fmt: skip
@click.option("--opacity", type=click.Choice(["color", "meaning"]), default="meaning",
              help="What blends codes, instances and scores, if both differ.")  # fmt: skip
@click.option("--cameras", type=FILE, help="Input cameras, from `infer --cameras-out`.")
@click.option("--view", type=click.IntRange(min=0), help="Draw from this one of them.")
@click.option("--frames", type=click.IntRange(1, 10_000), default=60, help="Length of the orbit.")
@click.option("--size", type=Size(), default="640x480", help="Size of the image in pixels.")
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
    out: Path,
    text: str | None,
    cameras: Path | None,
    codebook: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw SCENE from the first photo's place, from an input camera, or along an orbit."""
    from ffsplat.cli.pictures import is_animation, save_picture
    from ffsplat.io import check_output, load_scene, read_cameras

    what = options["what"] or ("rgb" if text is None else "query")
    if (what == "query") != (text is not None):
        raise UsageError("--what query and --query TEXT belong together")
    animated = is_animation(out)
    check_output(out, overwrite)
    console.progress("reading the scene")
    loaded = load_scene(scene, codebook)
    if cameras:
        loaded = replace(loaded, cameras=read_cameras(cameras))
    frames = options["frames"] if animated else None
    path = _camera_path(loaded, options["view"], frames, options["size"])
    drawing = {key: options[key] for key in ("level", "opacity", "backend")}
    painter = _Painter(loaded, what, text, drawing)
    save_picture(painter.paint(path, console), out, overwrite)
    if as_json:
        console.json({"file": str(out), "what": what, "query": text, "frames": len(path)})
    else:
        console.note(f"wrote {out} ({len(path)} frames)" if animated else f"wrote {out}")


def _camera_path(
    scene: "Scene", view: int | None, frames: int | None, size: tuple[int, int]
) -> "Cameras":
    """An orbit of so many frames, or one camera if `frames` is None."""
    from ffsplat.render import orbit

    if view is not None:
        if frames is not None:
            raise UsageError("--view draws one image", "end the name of --out in .png or .jpg")
        return _input_camera(scene, view, size)
    # The world of a scene that a model made is the frame of its first photo.
    if scene.cameras is None and "model" in scene.provenance:
        scene = replace(scene, cameras=_reference_camera(size))
        if frames is None:
            return _reference_camera(size)
    return orbit(scene, frames or 1, size, FIELD_OF_VIEW)


def _reference_camera(size: tuple[int, int]) -> "Cameras":
    import numpy as np

    from ffsplat.types import Cameras

    focal = size[0] / 2 / np.tan(np.radians(FIELD_OF_VIEW) / 2)
    intrinsics = [[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]]
    return Cameras(
        np.eye(4, dtype=np.float32)[None],
        np.array([intrinsics], np.float32),
        np.array([size], np.int32),
        ("reference",),
    )


def _input_camera(scene: "Scene", view: int, size: tuple[int, int]) -> "Cameras":
    """One of the scene's cameras, its whole image fitted into the size."""
    import numpy as np

    if scene.cameras is None:
        raise UsageError("--view needs --cameras", "infer again with --cameras-out cameras.json")
    if view >= len(scene.cameras):
        raise UsageError(f"there is no view {view}", f"views are 0 to {len(scene.cameras) - 1}")
    camera = scene.cameras[[view]]
    scale = (np.array(size) / camera.sizes[0]).min()
    margin = (np.array(size) - scale * camera.sizes[0]) / 2
    fit = np.array([[scale, 0, margin[0]], [0, scale, margin[1]], [0, 0, 1]])
    intrinsics = (fit @ camera.intrinsics).astype(np.float32)
    return replace(camera, intrinsics=intrinsics, sizes=np.array([size], np.int32))


@dataclass(frozen=True, eq=False)
class _Painter:
    """Draws one kind of image of a scene, as bytes ready to be saved."""

    scene: "Scene"
    what: str
    text: str | None
    options: dict[str, Any]

    def paint(self, cameras: "Cameras", console: Console) -> "Iterator[np.ndarray]":
        """One (h, w, 3) image a camera; labels are all drawn first, for they share a legend."""
        if self.what in ("codes", "instance"):
            yield from self._labels(list(self._render(self.what, cameras, console)))
        elif self.what == "query":
            yield from self._heat(cameras, console)
        else:
            for image in self._render(self.what, cameras, console):
                yield self._plain(image)

    def _render(
        self, what: Any, cameras: "Cameras", console: Console, **options: Any
    ) -> "Iterator[np.ndarray]":
        from ffsplat.render import render

        for number in range(len(cameras)):
            console.progress(f"drawing {number + 1} of {len(cameras)}")
            yield render(self.scene, cameras[[number]], what, **self.options, **options)[0]

    def _plain(self, image: "np.ndarray") -> "np.ndarray":
        from ffsplat.render.colors import depth_colors, to_bytes

        if self.what == "depth":
            return to_bytes(depth_colors(image))
        return to_bytes(image if image.ndim == 3 else image[..., None].repeat(3, -1))

    def _labels(self, maps: "list[np.ndarray]") -> "Iterator[np.ndarray]":
        import numpy as np

        from ffsplat.render.colors import label_colors, legend, paint_labels, to_bytes

        stacked = np.stack(maps)
        found, counts = np.unique(stacked[stacked >= 0], return_counts=True)
        colors = label_colors(int(found.max(initial=-1)) + 1)
        book = self.scene.codebook
        entries = []
        if self.what == "codes" and book:
            rows = found[np.argsort(-counts, kind="stable")]
            entries = [(book.names[row] or f"row {row}", colors[row].tolist()) for row in rows]
        for labels in maps:
            painted = paint_labels(labels, colors)
            yield legend(painted, entries) if entries else to_bytes(painted)

    def _heat(self, cameras: "Cameras", console: Console) -> "Iterator[np.ndarray]":
        from ffsplat.query import query
        from ffsplat.render.colors import heat, to_bytes

        found = query(self.scene, self.text or "")
        highest = max(float(found.scores.max(initial=0)), found.threshold)
        colors = self._render("rgb", cameras, console)
        scores = self._render("score", cameras, console, scores=found.scores)
        for rgb, score in zip(colors, scores, strict=True):
            yield to_bytes(heat(rgb, score, 0.0, highest))
