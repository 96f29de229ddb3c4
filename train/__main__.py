"""The command: python -m train fit | validate | test | export | blend; measure: train.evaluate."""

import logging
import sys
from pathlib import Path

import click

from ffsplat.errors import FFSplatError


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="python -m train.evaluate measures a checkpoint.",
)
def main() -> None:
    """Train ffsplat networks by a recipe: fit --config train/recipes/tiny-rooms.yaml --out DIR."""


def _lightning(name: str, doc: str) -> None:
    @main.command(
        name, help=doc, add_help_option=False, context_settings={"ignore_unknown_options": True}
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:  # LightningCLI reads them from sys.argv
        from train.cli import run

        run()


_lightning("fit", "Train, or go on: --config RECIPE --out DIR [--ckpt_path last].")
_lightning("validate", "Measure the weights of DIR on rooms of the split `preview`.")
_lightning("test", "Measure the weights of DIR on held-out rooms.")
_lightning("export", "Write the weights of DIR as a checkpoint folder: --folder FOLDER.")


@main.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--card", type=click.Path(exists=True, path_type=Path), help="README of the model.")
def blend(folders: tuple[Path, ...], out: Path, card: Path | None) -> None:
    """Write the mean of the weights of several checkpoint FOLDERS of one shape."""
    from train.export import blend as write

    write(folders, out, card)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    try:
        main()
    except FFSplatError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
