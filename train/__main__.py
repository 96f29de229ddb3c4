"""The command: python -m train fit | export | evaluate."""

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
@click.option("--pool", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--validation", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--initial", type=click.Path(exists=True, path_type=Path), help="Start from this.")
@click.option("--resume", is_flag=True, help="Go on from last.ckpt in --out.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--save-every", default=500, show_default=True)
@click.option("--validate-every", default=2000, show_default=True)
def fit(config: Path, **options) -> None:
    """Train by a recipe on a pre-rendered pool (python -m data pool)."""
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


if __name__ == "__main__":
    try:
        main()
    except FFSplatError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
