"""Options that say which model to load, for all commands that run one."""

from collections.abc import Callable
from typing import Any

import click

LOADING = ("model", "revision", "offline", "accept_license", "device", "dtype")
"""Names under which the options reach the command; they are those of `ffsplat.load`."""


def loading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of LOADING."""
    options = [
        click.option("--model", default="auto",
                     help="auto, a name, a folder, or org/repo@revision."),
        click.option("--revision", help="Revision of the weights on the hub."),
        click.option("--offline", is_flag=True, help="Use no network."),
        click.option("--accept-license", is_flag=True,
                     help="Accept a non-commercial licence, for good."),
        click.option("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps."),
        click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto",
                     help="Precision of the network."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
