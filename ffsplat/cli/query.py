"""`ffsplat query`: find things in a scene by text, without the photos or the network."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options, printable
from ffsplat.errors import FFSplatError

if TYPE_CHECKING:
    from ffsplat.query import Hit, QueryResult
    from ffsplat.types import Scene

HIT_COLOR = (1.0, 0.25, 0.0)
"""What hits are tinted with; the rest of the scene turns grey."""

TINT = 0.7


@click.command("query", short_help=COMMANDS["query"])
@click.argument("scene", type=FILE)
@click.argument("text")
@click.option("--threshold", type=float, help="Score from which a Gaussian matches.")
@click.option("--level", type=click.Choice(["whole", "part"]), help="Only things, or only parts.")
@click.option("--space", help="Text space, if the codebook has several.")
@click.option("--max-hits", type=click.IntRange(min=1), default=20, help="List at most so many.")
@click.option("--codebook", type=FILE, help="The codebook of the scene, if not beside it.")
@click.option("-o", "--out", type=FILE, help="Also write a scene (PLY) ...")
@click.option("--out-mode", type=click.Choice(["hit", "colored"]), default="hit",
              help="... of the hits alone, or of everything with the hits coloured.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace that file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the hits as JSON.")
@common_options
@click.pass_obj
def command(
    console: Console,
    scene: Path,
    text: str,
    codebook: Path | None,
    out: Path | None,
    out_mode: str,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """List what matches TEXT in SCENE, best first, such as "red chair" or "table leg"."""
    from ffsplat.io import check_output, load_scene, save_scene, scene_outputs
    from ffsplat.query import query

    for path in scene_outputs(out) if out else []:
        check_output(path, overwrite)
    console.progress("reading the scene")
    loaded = load_scene(scene, codebook)
    found = query(loaded, text, **options)
    if out:
        save_scene(_extract(loaded, found, text, out_mode), out, overwrite=overwrite)
    if as_json:
        console.json(_facts(text, found))
    else:
        _show(console, scene, text, found)


def _extract(scene: "Scene", found: "QueryResult", text: str, mode: str) -> "Scene":
    """The hits alone, or the whole scene in grey with the hits tinted."""
    import numpy as np

    from ffsplat.types import SH_C0, Gaussians

    if not found.hits:
        raise FFSplatError(
            f"nothing matches {text!r}, so there is nothing to write", "lower the --threshold"
        )
    rows = np.sort(np.concatenate([hit.rows for hit in found.hits]))
    if mode == "hit":
        return scene[rows]
    gaussians: Gaussians = scene.gaussians
    grey = gaussians.colors @ np.array([0.299, 0.587, 0.114], np.float32)
    colors = np.repeat(grey[:, None], 3, axis=1)
    colors[rows] = TINT * np.array(HIT_COLOR, np.float32) + (1 - TINT) * colors[rows]
    tinted = replace(gaussians, sh=((colors - 0.5) / np.float32(SH_C0))[:, None])
    return replace(scene, gaussians=tinted)


def _facts(text: str, found: "QueryResult") -> dict[str, Any]:
    return {
        "query": text,
        "threshold": float(found.threshold),
        "hits": [
            {
                "name": hit.name,
                "instance": hit.instance,
                "score": round(hit.score, 6),
                "count": hit.count,
                "center": hit.center.tolist(),
                "box": {"min": hit.minimum.tolist(), "max": hit.maximum.tolist()},
            }
            for hit in found.hits
        ],
    }


def _show(console: Console, scene: Path, text: str, found: "QueryResult") -> None:
    if not found.hits:
        best = float(found.scores.max(initial=0))
        console.note(f"nothing in {scene} matches {text!r} (best score {best:.2f})")
        return
    row = "{:>3}  {:>5}  {:>9}  {:^23}  {:^23}  {}"
    console.result(row.format("#", "score", "Gaussians", "centre", "size", "name"))
    for number, hit in enumerate(found.hits, 1):
        console.result(row.format(*_cells(number, hit)))


def _cells(number: int, hit: "Hit") -> tuple[object, ...]:
    centre, size = (
        " ".join(f"{value:7.2f}" for value in vector)
        for vector in (hit.center, hit.maximum - hit.minimum)
    )
    return number, f"{hit.score:.2f}", hit.count, centre, size, printable(hit.name)
