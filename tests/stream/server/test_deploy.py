"""The unit and the container file say what the command understands, and take rights away."""

import json
import re
import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from shutil import which

import click
import pytest

from ffsplat.cli import app
from ffsplat.cli.console import Console

DEPLOY = files("ffsplat.stream.server") / "deploy"
UNIT = (DEPLOY / "ffsplat-stream.service").read_text(encoding="utf-8")
CONTAINER = (DEPLOY / "Containerfile").read_text(encoding="utf-8")


def options_of(arguments: list[str]) -> dict:
    """What `ffsplat stream` makes of its arguments."""
    command = app.ffsplat.get_command(click.Context(app.ffsplat), "stream")
    if command is None:
        pytest.skip("this ffsplat has no command stream")
    parent = app.ffsplat.make_context("ffsplat", ["stream"], obj=Console())
    return command.make_context("stream", list(arguments), parent=parent).params


def settings_of(unit: str) -> dict[str, str]:
    lines = (line.partition("=") for line in unit.splitlines() if re.match(r"\w+=", line))
    return {key: value for key, _, value in lines}


def test_the_unit_starts_a_server_that_the_command_understands():
    words = shlex.split(settings_of(UNIT)["ExecStart"])
    assert words[0].endswith("/ffsplat")
    assert words[1] == "stream"
    options = options_of(words[2:])
    assert options["serve"]
    assert options["token_file"] == Path("%d/token")


def test_the_unit_takes_rights_away_and_leaves_time_to_drain():
    settings = settings_of(UNIT)
    expected = {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "CapabilityBoundingSet": "",
        "Restart": "on-failure",
        "KillSignal": "SIGTERM",
    }
    assert {key: settings[key] for key in expected} == expected
    assert int(settings["TimeoutStopSec"]) >= 12
    assert "StateDirectory" in settings


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path):
    program = which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze, which judges units, is not there")
    unit = tmp_path / "ffsplat-stream.service"
    unit.write_text(UNIT.replace("/opt/ffsplat/bin/ffsplat", sys.executable))
    done = subprocess.run(
        [program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    about_us = [line for line in done.stderr.splitlines() if "ffsplat-stream" in line]
    assert about_us == []


def test_the_container_starts_a_server_that_the_command_understands():
    (entry,), (command,) = (
        re.findall(rf"^{word} (\[.*\])$", CONTAINER, re.M) for word in ("ENTRYPOINT", "CMD")
    )
    assert json.loads(entry) == ["ffsplat", "stream"]
    options = options_of(json.loads(command))
    assert options["serve"]
    assert options["host"] == "0.0.0.0"
    assert options["token_file"] == Path("/run/secrets/token")


def test_the_container_is_built_in_the_format_that_keeps_its_health_check():
    assert "\nHEALTHCHECK " in CONTAINER
    assert "podman build --format docker " in CONTAINER


def test_the_container_runs_without_root_and_names_no_registry():
    instructions = [line for line in CONTAINER.splitlines() if line and not line.startswith("#")]
    assert instructions[0] == "FROM python:3.12-slim"
    users = [line.split()[1] for line in instructions if line.startswith("USER ")]
    assert users == ["10001:10001"]
    assert instructions.index("USER 10001:10001") < instructions.index(
        'ENTRYPOINT ["ffsplat", "stream"]'
    )
    assert not re.search(r"index-url|https://", CONTAINER)
