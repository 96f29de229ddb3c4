"""The controls beside the picture: they ask, select, change and save, and show what came of it."""

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ffsplat.edit import Extract, Label, Operation, Recolor, Remove
from ffsplat.hits import Hit
from ffsplat.query import STRATEGIES
from ffsplat.query.click import WHAT
from ffsplat.view.paint import COLORINGS

if TYPE_CHECKING:
    import viser

    from ffsplat.view.viewer import Viewer

USUAL = "usual"
BOTH = "whole and part"
LISTED = 12
"""Matches with a button of their own."""

_HIT_COLOR = (92, 95, 102)
_STYLE = "font-size:0.8em;line-height:1.4;min-height:2.8em;padding:0.25em 0.75em;"
_ERROR_STYLE = "color:#ff8787;"

Action = Callable[[Any], None]


class Panel:
    """viser's controls for a viewer; `refresh` makes them say how things stand."""

    def __init__(self, server: "viser.ViserServer", viewer: "Viewer", can_edit: bool):
        self._gui, self._viewer = server.gui, viewer
        self._buttons: list[viser.GuiButtonHandle] = []
        self.status = self._gui.add_html("")
        self.say("Ask for something, or click a thing.")
        tabs = self._gui.add_tab_group()
        with tabs.add_tab("Find"):
            self._add_find()
        with tabs.add_tab("Select"):
            self._add_select(can_edit)
        with tabs.add_tab("Take along"):
            self._add_take()

    def say(self, text: str, *, error: bool = False) -> None:
        """Show one line. It may hold anything: nothing in it is taken for HTML."""
        style = _STYLE + (_ERROR_STYLE if error else "")
        self.status.content = f'<div style="{style}">{html.escape(text)}</div>'

    def refresh(self) -> None:
        """Bring all that depends on the session up to date."""
        session = self._viewer.session
        self.coloring.value = session.look.coloring
        if session.found is not None:
            self.threshold.value = min(max(round(float(session.found.threshold), 2), 0.0), 1.0)
        if self.undo is not None and self.redo is not None:
            self.undo.disabled, self.redo.disabled = not session.can_undo, not session.can_redo
        self._list(session.hits)

    def _add_find(self) -> None:
        gui, viewer = self._gui, self._viewer
        with gui.add_form(None) as form:
            self.text = gui.add_text("Text", "", hint='Such as "red chair"; Enter asks.')
            find = gui.add_button("Find")
        self.strategy = gui.add_dropdown("Strategy", (USUAL, *STRATEGIES), initial_value=USUAL)
        self.threshold = gui.add_slider("Threshold", 0.0, 1.0, 0.01, 0.5)
        self.level = gui.add_dropdown("Level", (BOTH, "whole", "part"), initial_value=BOTH)
        self.coloring = gui.add_dropdown("Colour by", tuple(COLORINGS), initial_value="color")
        self.cameras = gui.add_checkbox("Cameras", True)
        self.matches = gui.add_folder("Matches")
        with self.matches:
            gui.add_html("")
        form.on_submit(self._calls(lambda _: viewer.ask(self.text.value)))
        find.on_click(self._calls(lambda _: viewer.ask(self.text.value)))
        self._on(self.strategy, lambda value: viewer.ask_by(None if value == USUAL else value))
        self._on(self.threshold, viewer.ask_from)
        self._on(self.level, lambda value: viewer.ask_at(None if value == BOTH else value))
        self._on(self.coloring, viewer.show_as)
        self._on(self.cameras, viewer.show_cameras)

    def _add_select(self, can_edit: bool) -> None:
        gui, session = self._gui, self._viewer.session
        self.by = gui.add_dropdown("A click takes", WHAT, initial_value=WHAT[0])
        self._button("Hide", session.hide, "Do not show what is selected.")
        self._button("Isolate", session.isolate, "Show nothing but what is selected.")
        self._button("Show all", session.show_all)
        self._button("Select nothing", session.clear)
        self.undo = self.redo = None
        if not can_edit:
            return
        with gui.add_folder("Change"):
            self._edit("Remove", lambda: Remove(), "Take it away; the hole stays.")
            self._edit("Extract", lambda: Extract(), "Keep it alone.")
            self.color = gui.add_rgb("Colour", (220, 60, 40))
            self._edit("Recolor", lambda: Recolor([c / 255 for c in self.color.value]))
            self.label = gui.add_text("Name", "")
            self._edit("Label", lambda: Label(self.label.value), "Say what it is.")
            self.undo = self._button("Undo", session.undo)
            self.redo = self._button("Redo", session.redo)

    def _add_take(self) -> None:
        gui, viewer = self._gui, self._viewer
        self.file = gui.add_text("File", "selection.ply", hint="In the folder of the viewer.")
        save = gui.add_button("Save selection")
        shot = gui.add_button("Screenshot")
        orbit = gui.add_button("Orbit video", hint="Drawn on the CPU; takes a while.")
        save.on_click(self._calls(lambda _: viewer.save(self.file.value)))
        shot.on_click(self._calls(lambda event: viewer.take_screenshot(event.client), locks=False))
        orbit.on_click(self._calls(lambda event: viewer.take_orbit(event.client), locks=False))

    def _list(self, hits: tuple[Hit, ...]) -> None:
        for button in self._buttons:
            button.remove()
        with self.matches:
            self._buttons = [self._hit(number, hit) for number, hit in enumerate(hits[:LISTED])]

    def _hit(self, number: int, hit: Hit) -> "viser.GuiButtonHandle":
        name = hit.name if len(hit.name) <= 24 else f"{hit.name[:23]}…"
        label = f"{number + 1}  {name}  {hit.score:.2f}"
        button = self._gui.add_button(
            label, color=_HIT_COLOR, hint=f"{hit.count} Gaussians; select it and fly there."
        )
        button.on_click(self._calls(lambda event: self._viewer.go_to(number, event.client)))
        return button

    def _button(
        self, label: str, action: Callable[[], None], hint: str | None = None
    ) -> "viser.GuiButtonHandle":
        button = self._gui.add_button(label, hint=hint)
        button.on_click(self._calls(lambda _: action()))
        return button

    def _edit(
        self, label: str, operation: Callable[[], Operation], hint: str | None = None
    ) -> None:
        self._button(label, lambda: self._viewer.session.edit(operation()), hint)

    def _on(self, handle: Any, action: Callable[[Any], None]) -> None:
        """Call an action with the value that a user gave a control."""
        run = self._calls(lambda event: action(event.target.value))

        def changed(event: Any) -> None:
            # What this program itself sets has no client.
            if event.client_id is not None:
                run(event)

        handle.on_update(changed)

    def _calls(self, action: Action, locks: bool = True) -> Action:
        return lambda event: self._viewer.do(lambda: action(event), locks=locks)
