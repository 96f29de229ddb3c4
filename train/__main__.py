"""The command: python -m train fit | export | blend | evaluate | photos."""

import logging
import sys
from pathlib import Path

import click

from ffsplat.errors import FFSplatError


@click.group()
def main() -> None:
    """Train, export and measure ffsplat networks."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)


@main.command()
@click.option("--config", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--pool", type=click.Path(exists=True, path_type=Path), help="Rendered rooms.")
@click.option("--textures", type=click.Path(exists=True, path_type=Path), help="Photo tiles.")
@click.option("--workers", default=0, show_default=True, help="Processes that furnish rooms.")
@click.option("--validation", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--initial", type=click.Path(exists=True, path_type=Path), help="Start from this.")
@click.option("--resume", is_flag=True, help="Go on from last.ckpt in --out.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--minutes", type=float, help="End by then, with the learning rate at zero.")
@click.option("--compile", "compile_parts", is_flag=True, help="Fuse kernels (for GPUs).")
@click.option("--save-every", default=500, show_default=True)
@click.option("--validate-every", default=2000, show_default=True)
def fit(config: Path, **options) -> None:
    """Train by a recipe, on a pool (python -m data pool) or on rooms made as it goes."""
    from train.fit import fit as run
    from train.recipe import read_recipe

    run(read_recipe(config), **options)


@main.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--config", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--card", type=click.Path(exists=True, path_type=Path), help="README of the model.")
def export(run: Path, out: Path, config: Path, card: Path | None) -> None:
    """Write the moving average of RUN/last.ckpt as a checkpoint folder in half precision."""
    from train.export import export as write
    from train.recipe import read_recipe

    write(run, read_recipe(config).model, out, card)


@main.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--card", type=click.Path(exists=True, path_type=Path), help="README of the model.")
def blend(folders: tuple[Path, ...], out: Path, card: Path | None) -> None:
    """Write the mean of the weights of several checkpoint FOLDERS of one shape."""
    from train.export import blend as write

    write(folders, out, card)


@main.command()
@click.option("--model", required=True, help="Name or folder of a checkpoint.")
@click.option("--pool", type=click.Path(exists=True, path_type=Path), help="Rooms of this folder.")
@click.option(
    "--training", type=click.Path(exists=True, path_type=Path), help="Pool of statistics."
)
@click.option("--scenes", default=256, show_default=True, help="Held-out rooms to render.")
@click.option("--size", default=128, show_default=True, help="Pixels along a side.")
@click.option("--views", default=2, show_default=True, help="Views given to the network.")
@click.option("--textures", type=click.Path(exists=True, path_type=Path), help="Photo tiles.")
@click.option("--out", type=click.Path(path_type=Path), help="The table as JSON.")
@click.option("--device", default="cpu", show_default=True)
def evaluate(**options) -> None:
    """Print the held-out table of a checkpoint, beside what needs no network."""
    from train.evaluate import evaluate as run

    run(**options)


@main.command()
@click.option("--model", required=True, help="Name or folder of a checkpoint.")
@click.option("--size", type=int, help="Longer side of a photo in pixels.")
@click.option("--device", default="cpu", show_default=True)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
def photos(model: str, folder: Path, size: int | None, device: str) -> None:
    """Print a table of pairs of real photos, one line a set of FOLDER."""
    from train.evaluate import evaluate_photos

    evaluate_photos(model, folder, size=size, device=device)


if __name__ == "__main__":
    try:
        main()
    except FFSplatError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
