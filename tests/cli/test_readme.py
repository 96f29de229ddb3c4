"""Every `ffsplat` line in the documents and the Makefile parses: no option name goes stale."""

import re
import shlex
from pathlib import Path

import click
import pytest

from ffsplat.cli import app
from ffsplat.cli.console import Console

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("models/**/*.md")),
    *sorted(ROOT.glob("checkpoints/**/*.md")),
    *sorted(ROOT.glob("data/**/*.md")),
]


def command_lines(text: str) -> list[list[str]]:
    """The arguments of each `ffsplat ...` line inside the code blocks of a Markdown text."""
    found = []
    for block in re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.match(r"\s*(?:\$ |python -m |.*/bin/)?ffsplat (.*)", line)
            if match:
                words = shlex.split(match[1], comments=True)
                end = next((i for i, w in enumerate(words) if w in ("|", ">", "&&")), None)
                found.append(words[:end])
    return found


def parse(arguments: list[str]) -> str:
    """Parse a command line without running it; the name of its command."""
    try:
        group = app.ffsplat.make_context("ffsplat", list(arguments), obj=Console())
        name, command, rest = app.ffsplat.resolve_command(group, group._protected_args + group.args)
        assert command is not None
        command.make_context(name, rest, parent=group)
    except click.exceptions.Exit:
        return "--help"
    return str(name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_line_of_a_document_parses(document):
    for arguments in command_lines(document.read_text(encoding="utf-8")):
        parse(arguments)


def test_every_command_line_of_the_makefile_parses():
    lines = re.findall(r"^\t\$\(BIN\)/ffsplat (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"infer", "query", "render"} == {parse(shlex.split(line)) for line in lines}


def test_the_readme_shows_the_two_commands():
    lines = command_lines((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"infer", "query"} <= {parse(arguments) for arguments in lines}


def test_a_stale_option_is_noticed():
    text = "```sh\n$ ffsplat infer photos/ \\\n  --output scene.ply  # old name\n```\n"
    (arguments,) = command_lines(text)
    assert arguments == ["infer", "photos/", "--output", "scene.ply"]
    with pytest.raises(click.UsageError):
        parse(arguments)


@pytest.mark.parametrize("name", app.COMMANDS)
def test_the_group_and_the_command_tell_the_same(name):
    command = app.ffsplat.get_command(click.Context(app.ffsplat), name)
    assert command is not None
    assert command.name == name
    assert command.short_help == app.COMMANDS[name]
    undocumented = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert undocumented == []
