"""`ffsplat edit`: choose things in a scene and remove, keep, paint, move or name them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from ffsplat.cli.console import FILE, Console, common_options, printable
from ffsplat.cli.edit_steps import (
    OPERATIONS,
    SELECTIONS,
    Choice,
    Done,
    InOrder,
    Numbers,
    Step,
    apply_steps,
    steps_in_order,
)
from ffsplat.cli.grouping import GroupChoice, group_options
from ffsplat.cli.numbers import Within
from ffsplat.cli.writing import SceneOutput, format_options

if TYPE_CHECKING:
    from ffsplat.types import Scene

LONGEST_NOTE = 200
"""Letters of the scene's note on how it was edited."""


def step_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options whose order says what happens; the names are in SELECTIONS and OPERATIONS."""
    many: dict[str, Any] = {"multiple": True}
    vector: dict[str, Any] = many | {"type": Numbers(3)}
    box: dict[str, Any] = many | {"type": Numbers(6)}
    positive: dict[str, Any] = many | {"type": Within(0, min_open=True)}
    options = [
        click.option("--select", metavar="TEXT", **many, help="Choose what matches a text."),
        click.option("--instance", type=click.IntRange(0), **many, help="Choose an object."),
        click.option("--box", metavar="X,Y,Z,X,Y,Z", **box, help="Choose between two corners."),
        click.option("--mask", type=FILE, **many, help="Choose by truth values in a .npy file."),
        click.option("--all", "everything", is_flag=True, help="Choose everything."),
        click.option("--remove", is_flag=True, help="Take it away; what it hid stays a hole."),
        click.option("--extract", is_flag=True, help="Keep it alone."),
        click.option("--recolor", metavar="COLOR", **many,
                     help="Paint it, such as brown, navy or a0522d; its shading stays."),
        click.option("--hue", metavar="DEGREES", type=float, **many, help="Turn its hue."),
        click.option("--move", metavar="X,Y,Z", **vector, help="Shift it, in world units."),
        click.option("--turn", metavar="X,Y,Z", **vector,
                     help="Turn it about that axis by as many degrees as it is long."),
        click.option("--scale", metavar="FACTOR", **positive, help="Make it larger or smaller."),
        click.option("--label", metavar="NAME", **many, help="Say what it is."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command("edit", cls=InOrder, short_help=COMMANDS["edit"])
@click.argument("scene", type=FILE)
@step_options
@click.option("--flat", is_flag=True, help="Paint without shading.")
@click.option("--about", type=click.Choice(["center", "origin"]), default="center",
              help="What is turned and scaled about: what is chosen, or the world.")  # fmt: skip
@click.option("--new-instance", is_flag=True, help="What is labelled becomes one new object.")
@group_options
@click.option("--whole-instances", is_flag=True, help="Texts choose whole objects.")
@click.option("--strategy", help="How texts are compared; see `ffsplat query --strategies`.")
@click.option("--option", "-O", "pairs", multiple=True, metavar="NAME=VALUE",
              help="An option of the strategy; may be given again.")  # fmt: skip
@click.option("--threshold", type=float, help="Score from which a Gaussian matches a text.")
@click.option("--level", type=click.Choice(["whole", "part", "subpart"]),
              help="Only things, only parts, or only parts of parts.")  # fmt: skip
@click.option("--labels", help="Tell these apart, such as chair,wall; each text is one of them.")
@encoder_options
@click.option("--codebook", type=FILE, help="The codebook of the scene, if not beside it.")
@click.option("-o", "--out", type=FILE, required=True, help="The scene to write.")
@format_options(own=("space",), hidden=True)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@common_options
@click.pass_context
def command(
    context: click.Context,
    scene: Path,
    out: Path,
    codebook: Path | None,
    cameras: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Choose Gaussians of SCENE and change them, step by step as the options stand.

    Selections in a row unite; an operation is about all that was chosen before it:
    --select chair --remove --select sofa --select cushion --recolor brown --move 0,0,0.5
    """
    console: Console = context.obj
    encoder, group = EncoderChoice.take(options), GroupChoice.take(options)
    values = {name: options.pop(name) for name in (*SELECTIONS, *OPERATIONS)}
    steps = steps_in_order(context.meta["order"], values, group is not None)
    output = SceneOutput.take(out, options, overwrite)
    choice = _choice(options)
    output.check()
    console.progress("reading the scene")
    edited = loaded_scene(scene, codebook, cameras)
    before, objects = len(edited), None
    if group:
        edited, objects = group.apply(edited, console)
    edited, done = _edited(console, edited, steps, choice, encoder)
    names = ["group"] if group else []
    edited = _with_note(edited, names + [one.operation.name for one in done])
    files = output.write(edited)
    output.note(edited, console)
    if as_json:
        console.json(_facts(done, files, before, objects))
    else:
        if objects is not None:
            console.result(f"--group: {objects} objects in {before} Gaussians")
        _show(console, done, files)


def _edited(
    console: Console,
    scene: "Scene",
    steps: Sequence[Step],
    choice: Choice,
    encoder: EncoderChoice,
) -> tuple["Scene", list[Done]]:
    """The scene after all steps, and what each of them did; the warnings are given."""
    if any(step.name == "select" for step in steps):
        space = encoder.of(scene)
        scene = with_rows(scene, space)
        choice = replace(choice, asked={**choice.asked, "space": space})
    done = []
    for after, one in apply_steps(scene, steps, choice):
        scene = after
        done.append(one)
        for text in one.warnings:
            console.warning(text)
    return scene, done


def _choice(options: dict[str, Any]) -> Choice:
    strategy, pairs = options["strategy"], options["pairs"]
    if options["labels"] is not None:
        strategy, pairs = strategy or "softmax", (*pairs, f"labels={options['labels']}")
    asking = ("threshold", "level", "whole_instances")
    asked = {name: options[name] for name in asking if options[name] is not None}
    asked |= strategy_options(strategy, pairs) | ({"strategy": strategy} if strategy else {})
    return Choice(asked, options["flat"], options["new_instance"], options["about"])


def _with_note(scene: "Scene", names: Sequence[str]) -> "Scene":
    """The scene with a note in its provenance that it is not what the model made."""
    earlier = scene.provenance.get("edited", "")
    note = ", ".join(filter(None, [earlier, *names]))
    return replace(scene, provenance={**scene.provenance, "edited": note[-LONGEST_NOTE:]})


def _facts(
    done: Sequence[Done], files: Sequence[Path], before: int, objects: int | None
) -> dict[str, Any]:
    """What was done as plain values; `objects` were found."""
    return {
        "files": [str(path) for path in files],
        "gaussians": {"before": before, "after": done[-1].after if done else before},
        **({} if objects is None else {"objects": objects}),
        "steps": [
            {
                "chosen_by": [str(step) for step in one.chosen_by],
                "chosen": one.chosen,
                "operation": str(one.operation),
                "gaussians": one.after,
                "warnings": one.warnings,
            }
            for one in done
        ],
    }


def _show(console: Console, done: Sequence[Done], files: Sequence[Path]) -> None:
    for one in done:
        what = " ".join(str(step) for step in one.chosen_by)
        gone = one.before - one.after
        left = f"; {gone} are gone, {one.after} are left" if gone else ""
        counted = f"{one.chosen} of {one.before} Gaussians{left}"
        console.result(printable(f"{what} {one.operation}: {counted}"))
    console.note(f"wrote {', '.join(str(path) for path in files)}")
