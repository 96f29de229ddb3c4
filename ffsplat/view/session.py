"""What a viewer shows of a scene and what was done to it. Knows scenes, not pages."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from ffsplat.codebook import LEXICON
from ffsplat.edit import Extract, History, Operation, Recolor, Remove
from ffsplat.errors import OutputError, UsageError
from ffsplat.hits import Hit
from ffsplat.query import STRATEGIES, QueryResult, most_common, query
from ffsplat.query.click import Picked, along_ray, click
from ffsplat.types import SH_C0, Scene
from ffsplat.view.paint import COLORINGS, Look, paint, possible

SOLID = 0.1
"""Opacity along a ray below which it meets nothing that anybody sees."""

WANT_PHRASES = ("relevancy", "nested")
"""Strategies that compare with canonical phrases."""

USUAL_LABELS = 8

MAX_NAME = 100
"""Characters of the name of a file."""


class Session:
    """A scene, a question and its answer, a selection, what is hidden, and the steps back.

    `folder` is where files are saved. Everything that a user can get wrong raises an FFSplatError
    and changes nothing.
    """

    def __init__(self, scene: Scene, folder: Path):
        self.folder = folder
        self.look = Look()
        self.text = ""
        self.strategy: str | None = None
        self.threshold: float | None = None
        self.level: str | None = None
        self.labels: tuple[str, ...] = ()
        self.found: QueryResult | None = None
        self._history = History(scene)
        self.selected = np.zeros(len(scene), bool)
        self.hidden = np.zeros(len(scene), bool)
        self.is_marked = True
        """Whether what is selected is tinted: not where its own new colours are to be seen."""

    @property
    def scene(self) -> Scene:
        """The scene as it is now."""
        return self._history.scene

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is a step that was taken back."""
        return self._history.can_redo

    @property
    def hits(self) -> tuple[Hit, ...]:
        """What matches the question."""
        return () if self.found is None else self.found.hits

    def colors(self) -> Float32[np.ndarray, "n 3"]:
        """The colour of each Gaussian as it is shown."""
        chosen = self.selected if self.is_marked else None
        return paint(self.scene, self.look, self.found, chosen)

    # Asking

    def ask(self, text: str) -> None:
        """Score everything against a text and show how well it matches; "" ends the question."""
        text = text.strip()
        self.found = self._answer(text)
        self.text = text
        self._light_up()

    def ask_by(self, strategy: str | None) -> None:
        """Answer by another strategy (None: the usual one) and by its own threshold.

        One that tells labels apart is given the commonest things if no labels are set. A strategy
        that cannot answer this question stays for the next one; then there is no answer. One that
        can lights up what matches.
        """
        if tells_apart(strategy) and not self.labels and self.scene.codes is not None:
            self.labels = tuple(name for name, _ in most_common(self.scene, USUAL_LABELS))
        self.strategy, self.threshold = strategy, None
        self._fit()
        self._light_up()

    def ask_from(self, threshold: float | None) -> None:
        """Let Gaussians match from another score on."""
        self._again(threshold=threshold)

    def ask_at(self, level: str | None) -> None:
        """Answer with one level only, and show its codes; None for all levels, and whole things."""
        self._again(level=level)
        self.look = replace(self.look, level=level or "whole")

    def _light_up(self) -> None:
        """Show scores if something was asked, and no longer if nothing was."""
        asked = self.found is not None
        if asked or self.look.coloring == "score":
            self.look = replace(self.look, coloring="score" if asked else "rgb")

    def _again(self, **changes: str | float | None) -> None:
        before = {name: getattr(self, name) for name in changes}
        self.__dict__.update(changes)
        try:
            self.found = self._answer(self.text)
        except Exception:
            self.__dict__.update(before)
            raise

    def _answer(self, text: str) -> QueryResult | None:
        """None for no text, and where there is nothing yet: what comes will be asked."""
        if not text or not len(self.scene):
            return None
        among: dict[str, Any] = {}
        if self.labels and tells_apart(self.strategy):
            among["labels"] = self.labels
        return query(
            self.scene,
            text,
            strategy=self.strategy,
            threshold=self.threshold,
            level=self.level,
            **among,
        )

    # Selecting

    def show_as(self, coloring: str) -> None:
        """Colour the scene in another way; refused if the scene has nothing for it."""
        look = replace(self.look, coloring=coloring)
        COLORINGS[coloring](self.scene[:0], look, self.found and _none_of(self.found))
        self.look = look

    def select_hit(self, number: int) -> Hit:
        """Select one of the hits, counted from 0, and return it."""
        if not 0 <= number < len(self.hits):
            raise UsageError(f"there is no match {number + 1}")
        self.clear()
        self.selected[self.hits[number].rows] = True
        return self.hits[number]

    def click(
        self, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"], what: str
    ) -> None:
        """Select what a ray meets and all that `ffsplat.query.click` takes with it.

        Selects nothing where the ray meets nothing. Raises UsageError for what has no such thing.
        """
        rows = np.flatnonzero(~self.hidden)
        met = along_ray(self.scene.gaussians[rows], origin, direction)
        if met.weights.sum() < SOLID:
            self.clear()
            return
        found = click(self.scene, Picked(rows[met.rows], met.weights), what)
        self.selected, self.is_marked = found.scores >= found.threshold, True

    def clear(self) -> None:
        """Select nothing."""
        self.selected, self.is_marked = np.zeros(len(self.scene), bool), True

    def hide(self) -> None:
        """Hide what is selected, which is no longer selected then."""
        self.hidden = self.hidden | self._chosen()
        self.clear()

    def isolate(self) -> None:
        """Hide all but what is selected."""
        self.hidden = ~self._chosen()
        self.clear()

    def show_all(self) -> None:
        """Hide nothing."""
        self.hidden = np.zeros(len(self.scene), bool)

    def _chosen(self) -> Bool[np.ndarray, " n"]:
        if not self.selected.any():
            raise UsageError("nothing is selected", "click a thing, or one of the matches")
        return self.selected

    # Changing

    def edit(self, operation: Operation) -> None:
        """Apply an operation to what is selected; a new colour is shown."""
        chosen = self._chosen()
        self._history.do(operation, chosen)
        if isinstance(operation, Recolor):
            self.look, self.is_marked = replace(self.look, coloring="rgb"), False
        if isinstance(operation, Remove | Extract):
            kept = chosen if isinstance(operation, Extract) else ~chosen
            self.selected, self.hidden = np.zeros(int(kept.sum()), bool), self.hidden[kept]
        self._fit()

    def undo(self) -> None:
        """Take the last step back."""
        self._history.undo()
        self._fit()

    def redo(self) -> None:
        """Take a step again that was taken back."""
        self._history.redo()
        self._fit()

    def follow(
        self, scene: Scene, selected: Bool[np.ndarray, " n"], hidden: Bool[np.ndarray, " n"]
    ) -> None:
        """Show another scene, such as a map that has grown; there are no steps back."""
        waited = self.found is None
        self._history = History(scene)
        self.selected, self.hidden = selected, hidden
        self._fit()
        if waited and self.found is not None:
            self._light_up()

    def _fit(self) -> None:
        """Answer anew for the scene as it is now. Masks of another scene mean nothing."""
        if len(self.selected) != len(self.scene):
            self.clear()
        if len(self.hidden) != len(self.scene):
            self.show_all()
        self.found = None  # that of another scene would be worse than none
        try:
            self.found = self._answer(self.text)
        finally:
            if self.look.coloring not in possible(self.scene, self.found):
                self.look = replace(self.look, coloring="rgb")

    # Keeping

    def save(self, name: str) -> list[Path]:
        """Write what is selected as a scene into the folder, and return the files.

        Raises UsageError for a name that is more than a name, and OutputError for one that exists.
        """
        from ffsplat.io import save_scene

        chosen = self._chosen()
        path = self.folder / file_name(name)
        if path.exists():
            raise OutputError(f"{path.name} already exists", "give another name")
        return save_scene(self.scene[chosen], path)

    def pictured(self) -> Scene:
        """The scene as it is shown: without what is hidden, in the colours it is shown in."""
        if self.look.coloring == "rgb" and not (self.is_marked and self.selected.any()):
            return self.scene[~self.hidden]
        sh = (self.colors() - np.float32(0.5)) / np.float32(SH_C0)
        painted = replace(self.scene.gaussians, sh=sh[:, None].astype(np.float32))
        return replace(self.scene, gaussians=painted)[~self.hidden]


def tells_apart(strategy: str | None) -> bool:
    """Whether a strategy weighs the text against a list of labels."""
    return strategy in ("softmax", "ensemble")


def can_be_asked(scene: Scene) -> bool:
    """Whether a scene has codes, and a codebook that says what they mean."""
    return scene.codes is not None and scene.codebook is not None


def strategies_for(scene: Scene) -> tuple[str, ...]:
    """The strategies that can answer a question to a scene.

    The built-in vocabulary knows no canonical phrases, which some strategies compare with; a
    codebook without it can only be asked by vectors.
    """
    if scene.codebook is None:
        return tuple(STRATEGIES)
    lacking = WANT_PHRASES if LEXICON in scene.codebook.spaces else (LEXICON,)
    return tuple(name for name in STRATEGIES if name not in lacking)


def file_name(text: str) -> str:
    """The name of a PLY file in a folder; UsageError for a path, or what is no plain name."""
    name = text.strip()
    name = name if name.lower().endswith(".ply") else f"{name}.ply"
    plain = name.isprintable() and not set(name) & set('/\\:*?"<>|') and len(name) <= MAX_NAME
    if not plain or name.startswith(".") or name == ".ply":
        raise UsageError(f"no name of a file: {text!r:.60}", "a name alone, such as chair.ply")
    return name


def _none_of(found: QueryResult) -> QueryResult:
    """The same answer for a scene without Gaussians."""
    return replace(found, scores=found.scores[:0], hits=())
