"""The steps of `ffsplat edit`: its options in the order in which they were given, carried out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.errors import FFSplatError, SceneFileError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from ffsplat.edit import Operation
    from ffsplat.types import Scene

SELECTIONS = ("select", "instance", "box", "mask", "everything")
OPERATIONS = ("remove", "extract", "recolor", "hue", "move", "turn", "scale", "label")


class InOrder(click.Command):
    """A command that keeps, as `order` in the context, the names of its options as they stood."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse once for the order, then as usual."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta["order"] = [parameter.name for parameter in order]
        return super().parse_args(ctx, args)


class Numbers(click.ParamType):
    """So many numbers between commas."""

    name = "numbers"

    def __init__(self, count: int) -> None:
        self.count = count

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parse such as 0,-1.5,2; finite ones only."""
        try:
            found = tuple(map(float, str(value).split(",")))
        except ValueError:
            found = ()
        if len(found) != self.count or not all(abs(number) < 1e12 for number in found):
            self.fail(f"{value!r} is not {self.count} numbers between commas", param, ctx)
        return found


@dataclass(frozen=True)
class Step:
    """One option of the command line, by name, and its value."""

    name: str
    value: Any

    def __str__(self) -> str:
        """As it was given: `--select chair`."""
        option = "--all" if self.name == "everything" else f"--{self.name}"
        if self.value is True:
            return option
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        shown = (f"{value:g}" if isinstance(value, float) else f"{value}" for value in values)
        return f"{option} {','.join(shown)}"


def steps_in_order(
    order: Sequence[str], values: dict[str, Any], grouped: bool = False
) -> list[Step]:
    """Selections and operations as they stood; `values` has all those of each option.

    Raises UsageError for an operation with nothing chosen before it, a selection without an
    operation after it, and for nothing to do unless the scene is `grouped`.
    """
    given = {name: _each(values[name]) for name in (*SELECTIONS, *OPERATIONS)}
    steps = [Step(name, next(given[name])) for name in order if name in given]
    if grouped and not steps:
        return []
    if not any(step.name in OPERATIONS for step in steps):
        raise UsageError("nothing to do", "add an operation such as --remove or --recolor COLOR")
    if steps[0].name in OPERATIONS:
        raise UsageError(f"{steps[0]} of what?", "choose first: --select TEXT, or --all")
    if steps[-1].name in SELECTIONS:
        raise UsageError(f"nothing is done with {steps[-1]}", "add an operation after it")
    return steps


@dataclass(frozen=True)
class Choice:
    """How texts choose: the options of `ffsplat.edit.select`, and the others that steps share."""

    asked: dict[str, Any]
    flat: bool = False
    new_instance: bool = False
    pivot: Any = "center"


@dataclass(frozen=True, eq=False)
class Done:
    """An operation that was applied: how many Gaussians it was about, and how many there are."""

    chosen_by: tuple[Step, ...]
    operation: Step
    chosen: int
    before: int
    after: int
    warnings: list[str] = field(default_factory=list)


def apply_steps(
    scene: "Scene", steps: Sequence[Step], choice: Choice
) -> Iterator[tuple["Scene", Done]]:
    """The scene after each operation.

    Selections in a row unite. What they chose holds for the operations up to the next selection;
    after something was taken away, all that is left of it. Raises FFSplatError where a selection
    chooses nothing.
    """
    import numpy as np

    chosen, chosen_by = np.zeros(len(scene), bool), []
    opened = False
    for step in steps:
        if step.name in SELECTIONS:
            if not opened:
                chosen, chosen_by, opened = np.zeros(len(scene), bool), [], True
            chosen = chosen | chosen_gaussians(scene, step, choice)
            chosen_by.append(step)
            continue
        opened, before, count = False, len(scene), int(np.count_nonzero(chosen))
        if not count:
            raise UsageError(f"{step} of what was removed", "choose something else before it")
        scene = operation_of(step, choice).apply(scene, chosen)
        done = Done(tuple(chosen_by), step, count, before, len(scene), _warnings(scene, step))
        if step.name in ("remove", "extract"):
            chosen = np.full(len(scene), step.name == "extract")
        yield scene, done


def chosen_gaussians(scene: "Scene", step: Step, choice: Choice) -> "np.ndarray":
    """A mask of the Gaussians that a selection chooses; FFSplatError if there are none."""
    import numpy as np

    from ffsplat.edit import select, select_box, select_instance

    hint = "ffsplat info says what the scene holds"
    match step.name:
        case "select":
            chosen = select(scene, step.value, **choice.asked)
            hint = f"lower the --threshold, or see: ffsplat query SCENE {step.value!r}"
        case "instance":
            chosen = select_instance(scene, step.value)
        case "box":
            low, high = np.array(step.value, np.float64).reshape(2, 3)
            chosen = select_box(scene, low, high)
        case "mask":
            chosen = read_mask(step.value, len(scene))
        case _:
            chosen = np.ones(len(scene), bool)
    if not chosen.any():
        raise FFSplatError(f"{step} chooses nothing, so nothing is written", hint)
    return chosen


def operation_of(step: Step, choice: Choice) -> "Operation":
    """The operation that a step stands for; UsageError for a value that makes no sense."""
    import numpy as np

    from ffsplat import edit

    match step.name:
        case "remove":
            return edit.Remove()
        case "extract":
            return edit.Extract()
        case "recolor":
            return edit.Recolor(edit.color_of(step.value), choice.flat)
        case "hue":
            return edit.ShiftHue(step.value)
        case "label":
            return edit.Label(step.value, new_instance=choice.new_instance)
        case "turn":
            return edit.Move(edit.turn_of(np.array(step.value)), choice.pivot)
    from ffsplat.alignment import Similarity

    still = Similarity.identity()
    if step.name == "move":
        return edit.Move(replace(still, translation=np.array(step.value)))
    return edit.Move(replace(still, scale=step.value), choice.pivot)


def read_mask(path: Path, count: int) -> "np.ndarray":
    """One truth value a Gaussian from a .npy file; SceneFileError for anything else."""
    import numpy as np

    try:  # mapped: a header that promises more than the file has allocates nothing
        mask = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise SceneFileError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, SyntaxError) as error:
        raise SceneFileError(f"{path} is not a .npy file of truth values") from error
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (count,):
        raise SceneFileError(f"{path} does not hold {count} truth values, one a Gaussian")
    return np.array(mask)


def _warnings(scene: "Scene", step: Step) -> list[str]:
    if step.name != "label" or scene.codebook is None:
        return []
    from ffsplat.edit.labels import missing_spaces

    return [
        f"the text space {space} cannot embed {step.value!r}: queries there do not find it"
        for space in missing_spaces(scene.codebook, step.value)
    ]


def _each(value: Any) -> Iterator[Any]:
    """The values of an option that can be given several times; a flag is the same every time."""
    return iter(value) if isinstance(value, tuple) else repeat(value)
