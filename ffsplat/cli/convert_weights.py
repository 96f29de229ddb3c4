"""`ffsplat convert-weights`: a foreign checkpoint in, safetensors out, and no code of it run."""

from pathlib import Path

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options, printable


@click.command("convert-weights", short_help=COMMANDS["convert-weights"])
@click.argument("source", type=FILE)
@click.option("-o", "--out", type=FILE, required=True,
              help="The folder to write model.safetensors into.")  # fmt: skip
@click.option("--prefix", default="", help="Keep the tensors whose names begin so, without it.")
@click.option("--overwrite", is_flag=True, help="Replace that file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@common_options
@click.pass_obj
def command(
    console: Console, source: Path, out: Path, prefix: str, overwrite: bool, as_json: bool
) -> None:
    """Make model.safetensors of SOURCE, a .pt, .pth, .ckpt or .bin file that PyTorch wrote.

    Such a file is a pickle, which can run any code. Here it may build tensors and nothing else: it
    is read byte by byte first, and refused for anything else that it asks for. Its tensors may
    stand in a table of their own, "state_dict" or "model"; what is beside that is left out.
    """
    from ffsplat.weights import convert_weights

    console.progress("checking and converting")
    done = convert_weights(source, out, prefix, overwrite)
    facts = {
        "file": str(done.path),
        "tensors": done.tensors,
        "parameters": done.parameters,
        "bytes": done.bytes,
        "sha256": done.sha256,
        "left_out": list(done.left_out),
    }
    if as_json:
        console.json(facts)
        return
    if done.left_out:
        console.warning(f"left out: {', '.join(done.left_out)}")
    if not console.quiet:
        console.result(printable(f"written    {done.path}"))
        console.result(f"tensors    {done.tensors}, {done.parameters / 1e6:.1f} M numbers")
        console.result(f"sha256     {done.sha256}")
