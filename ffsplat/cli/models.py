"""`ffsplat models`: list, show, download and remove published models."""

from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS, SETTINGS
from ffsplat.cli.console import Console, common_options, printable
from ffsplat.cli.environment import silence_downloads
from ffsplat.hub.download import megabytes
from ffsplat.hub.locate import AUTO
from ffsplat.zoo import RECOMMENDED

if TYPE_CHECKING:
    from ffsplat.hub.inventory import Entry, Part

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
NAME = click.argument("name", callback=lambda _, __, name: RECOMMENDED if name == AUTO else name)


@click.group("models", short_help=COMMANDS["models"], context_settings=SETTINGS)
@common_options
def command() -> None:
    """Published models: which there are, and which of them lie on this machine.

    NAME is a published model, a folder, org/repo[@revision] on the Hugging Face hub, or auto, the
    recommended model. Weights lie in the hub's own cache (HF_HOME, HF_HUB_CACHE), which other
    programs share.
    """


@command.command("list")
@JSON
@common_options
@click.pass_obj
def list_models(console: Console, as_json: bool) -> None:
    """List the models that have a name, their licences, and what of them is here."""
    from ffsplat.hub.inventory import inventory

    facts = [_line(entry) for entry in inventory()]
    if as_json:
        console.json(facts)
        return
    rows = [("model", "licence", "here", "what it is")]
    rows += [(one["name"], one["license"], _size(one) or "-", one["summary"]) for one in facts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        console.result("  ".join(cells).rstrip())


@command.command("show")
@NAME
@click.option("--verify", is_flag=True, help="Compare every file with its digest once more.")
@JSON
@common_options
@click.pass_obj
def show(console: Console, name: str, verify: bool, as_json: bool) -> None:
    """Show where a model lies, its commit, licence and files."""
    from ffsplat.hub.inventory import describe

    entry = describe(name, again=verify)
    facts = {**_line(entry), "text_space": entry.text_space, "parts": [*map(_part, entry.parts)]}
    if as_json:
        console.json(facts)
        return
    _show(console, {
        "name": entry.name, "licence": entry.license, "here": _size(facts) or "no",
        "text space": entry.text_space or "the network's own",
    })  # fmt: skip
    for part in entry.parts:
        console.result(printable(f"{part.place}: {part.summary}"))
        rows = {"  revision": part.revision, "  licence": _license(part)}
        files = {f"  {file.name}": megabytes(file.stat().st_size) for file in part.files}
        _show(console, {key: value for key, value in (rows | files).items() if value})
    if verify and any(part.revision for part in entry.parts):
        console.result("every file here is what the hub promises")


@command.command("download")
@NAME
@click.option("--revision", help="Branch, tag or commit.")
@click.option("--accept-license", is_flag=True, help="Accept a non-commercial licence, for good.")
@JSON
@common_options
@click.pass_obj
def download(
    console: Console, name: str, revision: str | None, accept_license: bool, as_json: bool
) -> None:
    """Download a model, or the newest commit of it; go on where an earlier download ended."""
    from ffsplat.hub import resolve

    if console.quiet or as_json:
        silence_downloads()
    found = resolve(name, revision=revision, accept_license=accept_license, refresh=True)
    if as_json:
        console.json({**found.provenance, "folder": str(found.path)})
    elif not console.quiet:
        rows = {"model": found.name, "revision": found.revision, "licence": found.license}
        _show(console, {**rows, "folder": str(found.path)})


@command.command("remove")
@NAME
@JSON
@common_options
@click.pass_obj
def remove(console: Console, name: str, as_json: bool) -> None:
    """Remove a model from the hub's cache: all its revisions, and nothing else."""
    from ffsplat.hub import inventory

    removed = inventory.remove(name)
    if as_json:
        console.json([{"repository": one.repository, "commits": list(one.commits),
                       "bytes": one.bytes} for one in removed])  # fmt: skip
    elif not console.quiet:
        for one in removed:
            console.result(f"removed {one.repository}, {megabytes(one.bytes)} freed")


def _line(entry: "Entry") -> dict[str, Any]:
    return {
        "name": entry.name,
        "license": entry.license,
        "non_commercial": any(part.non_commercial for part in entry.parts),
        "cached": entry.complete,
        "bytes": entry.bytes,
        "summary": ", with ".join(part.summary for part in entry.parts),
    }


def _part(part: "Part") -> dict[str, Any]:
    return {
        "place": part.place,
        "revision": part.revision,
        "license": part.license,
        "accepted": part.accepted,
        "complete": part.complete,
        "files": [{"path": str(file), "bytes": file.stat().st_size} for file in part.files],
    }


def _license(part: "Part") -> str:
    return part.license + ("" if part.accepted else ", non-commercial, not accepted yet")


def _show(console: Console, rows: dict[str, str]) -> None:
    width = max(10, *map(len, rows))
    for name, text in rows.items():
        indent = name[: len(name) - len(name.lstrip())]
        console.result(indent + printable(f"{name.ljust(width)} {text}"))


def _size(facts: dict[str, Any]) -> str:
    """The size of what is here, marked where something is lacking."""
    if not facts["bytes"]:
        return ""
    return megabytes(facts["bytes"]) + ("" if facts["cached"] else " (in part)")
