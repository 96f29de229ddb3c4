"""`ffsplat eval`: how well a scene says what is where, by a published protocol."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.asking import (
    EncoderChoice,
    encoder_options,
    loaded_scene,
    strategy_options,
    with_rows,
)
from ffsplat.cli.console import FILE, Console, common_options
from ffsplat.errors import FFSplatError, UsageError

if TYPE_CHECKING:
    from ffsplat.evaluation.asking import Subject

IMAGES = ("lerf-ovs", "lerf-ovs-3d", "3d-ovs", "labels")
POINTS = "scannet"


@click.command("eval", short_help=COMMANDS["eval"])
@click.argument("scene", type=FILE, required=False)
@click.option("--protocol", type=click.Choice([*IMAGES, POINTS]), help="The rule to measure by.")
@click.option("--labels", type=FILE, help="Folder of labels; for scannet, the *.labels.ply.")
@click.option("--cameras", type=FILE, help="Cameras of the scene, from `infer --cameras-out`.")
@click.option("--poses", type=FILE, help="scannet: folder of NAME.txt, to align the scene with.")
@click.option("--classes", type=click.Choice(["10", "15", "19", "20"]), default="19",
              help="scannet: which subset of NYU40.")  # fmt: skip
@click.option("--strategy", help="How to ask, as in `ffsplat query`.")
@click.option("--option", "-O", "pairs", multiple=True, metavar="NAME=VALUE",
              help="An option of the strategy; may be given again.")  # fmt: skip
@encoder_options
@click.option("--threshold", type=float, help="Score from which a Gaussian matches.")
@click.option("--codebook", type=FILE, help="The codebook of the scene, if not beside it.")
@click.option("--rules", is_flag=True, help="Print what each protocol does, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@common_options
@click.pass_obj
def command(
    console: Console,
    scene: Path | None,
    protocol: str | None,
    labels: Path | None,
    rules: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure SCENE against labels that people made."""
    from ffsplat.evaluation.protocols import EVERYWHERE, PROTOCOLS

    if rules:
        for name, chosen in PROTOCOLS.items():
            console.result(f"{name}: {chosen.rule}\n  {chosen.source}\n  reads {chosen.files}")
        console.result(EVERYWHERE)
        return
    if not (scene and protocol and labels):
        raise UsageError(
            "give SCENE, --protocol and --labels", "`ffsplat eval --rules` says what they do"
        )
    rule = PROTOCOLS[protocol]
    try:
        truth = rule.read(labels)
    except FFSplatError as error:
        error.hint = error.hint or f"`ffsplat eval --rules` says which files {protocol} reads"
        raise
    console.progress("reading the scene")
    subject = _subject(scene, options)
    console.progress("asking and drawing")
    settings = _settings(subject, protocol, options)
    if protocol != POINTS and (absent := len(truth) - len(subject.seen(truth))):
        console.warning(f"{absent} of {len(truth)} labelled photos have no camera: left out")
    figures = rule.measure(subject, truth, **settings)
    if as_json:
        unknown = sorted(subject.unknown)
        console.json({"protocol": protocol, "unknown": unknown, "figures": figures})
        return
    if subject.unknown:
        console.warning(f"words that the scene does not know: {', '.join(sorted(subject.unknown))}")
    for name, value in figures.items():
        console.result(f"{name.ljust(14)} {value:.4f}")


def _subject(scene: Path, options: dict[str, Any]) -> "Subject":
    from ffsplat.evaluation.asking import Subject

    encoder = EncoderChoice.take(options)
    given = strategy_options(options["strategy"], options["pairs"])
    loaded = loaded_scene(scene, options["codebook"], options["cameras"])
    space = encoder.of(loaded)
    loaded = with_rows(loaded, space)
    return Subject(loaded, options["strategy"], space, options["threshold"], given)


def _settings(subject: "Subject", protocol: str, options: dict[str, Any]) -> dict[str, Any]:
    """What only points need: the classes, and the way from the scene to them."""
    if protocol != POINTS:
        return {}
    from ffsplat.evaluation.points import align, read_poses

    settings: dict[str, Any] = {"classes": int(options["classes"])}
    if options["poses"]:
        cameras = subject.scene.cameras
        if cameras is None:
            raise UsageError("--poses needs --cameras", "those of `infer --cameras-out`")
        settings["world"] = align(cameras, read_poses(options["poses"], cameras))
    return settings
