"""The controls beside the picture: they ask, select, change and save, and show what came of it."""

import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ffsplat.codebook import asked_levels
from ffsplat.edit import Extract, Label, Operation, Recolor, Remove
from ffsplat.hits import Hit
from ffsplat.query import most_common
from ffsplat.query.click import WHAT
from ffsplat.text import counted
from ffsplat.view.legend import legend
from ffsplat.view.paint import possible
from ffsplat.view.session import can_be_asked, strategies_for, tells_apart

if TYPE_CHECKING:
    import viser

    from ffsplat.view.viewer import Viewer

USUAL = "automatic"
EVERY = "all"
"""Levels, where none is chosen."""

LISTED = 8
"""Matches with a button of their own."""

_NAMES = {"rgb": "RGB"}
"""Colourings that are not called by their key."""

_GREY = (66, 69, 75)
_STYLE = "font-size:0.8em;line-height:1.4;min-height:5.1em;padding:0.25em 0.75em 0.6em;"
_SMALL_STYLE = "font-size:0.8em;padding:0 0.75em 0.5em;"
_ERROR_STYLE = "color:#ff8787;"

Action = Callable[[Any], None]


class Panel:
    """viser's controls for a viewer; `refresh` makes them say how things stand."""

    def __init__(self, server: "viser.ViserServer", viewer: "Viewer", can_edit: bool):
        self._gui, self._viewer = server.gui, viewer
        self._listed: list[viser.GuiButtonHandle] = []
        self._explained: tuple[object, ...] = ()
        self.said = ""
        self.status = self._gui.add_html("")
        tabs = self._gui.add_tab_group()
        with tabs.add_tab("Find"):
            self._add_find()
        with tabs.add_tab("Select"):
            self._add_select()
        if can_edit:
            with tabs.add_tab("Change"):
                self._add_change()
        with tabs.add_tab("Save"):
            self._add_save()
        with self._gui.add_folder("View"):
            self._add_view()
        self.invite()

    def say(self, text: str, *, error: bool = False) -> None:
        """Show one line. It may hold anything: nothing in it is taken for HTML."""
        self.said = text
        style = _STYLE + (_ERROR_STYLE if error else "")
        self.status.content = f'<div style="{style}">{html.escape(text)}</div>'

    def invite(self) -> None:
        """Say what can be done with the scene."""
        self.say(self._invitation())

    def note_drawn(self, drawn: int, total: int) -> None:
        """Show how many Gaussians stand for all that are visible."""
        text = f"{drawn:,} of {total:,} Gaussians drawn, to stay quick" if drawn < total else ""
        content = f'<div style="{_SMALL_STYLE}">{text}</div>' if text else ""
        _set(self.drawn, content, "content")

    def refresh(self) -> None:
        """Bring all that depends on the session up to date."""
        session = self._viewer.session
        scene, found = session.scene, session.found
        can_ask = not len(scene) or can_be_asked(scene)  # a map that grows may get codes
        for control in (self.text, self.find, self.threshold, self.level, self.strategy):
            control.visible = can_ask
        self.labels.visible = can_ask and tells_apart(session.strategy)
        _set(self.labels, ", ".join(session.labels))
        self.threshold.disabled = found is None
        if found is not None:
            _set(self.threshold, min(max(round(float(found.threshold), 2), 0.0), 1.0))
        levels = () if scene.codebook is None else asked_levels(scene.codebook)
        _offer(self.level, (EVERY, *levels), session.level or EVERY)
        _offer(self.strategy, (USUAL, *strategies_for(scene)), session.strategy or USUAL)
        colorings = [_NAMES.get(name, name) for name in possible(scene, found)]
        _offer(self.coloring, colorings, _NAMES.get(session.look.coloring, session.look.coloring))
        self.cameras.visible = scene.cameras is not None and len(scene.cameras) > 0
        self.explain()
        self._list(session.hits)

    def explain(self) -> None:
        """Show what the colours mean; anew only where something changed."""
        session = self._viewer.session
        look = session.look
        eye = look.world_from_camera if look.coloring == "depth" else None
        now = session.scene, look.coloring, look.level, session.found, eye
        if len(self._explained) == len(now) and all(map(_is, now, self._explained)):
            return
        self._explained = now
        self.legend.content = legend(session.scene, look, session.found)

    # Tabs

    def _add_find(self) -> None:
        gui, viewer = self._gui, self._viewer
        with gui.add_form(None) as form:
            self.text = gui.add_text("Look for", "", hint='Such as "red chair"; Enter asks.')
            self.labels = gui.add_text(
                "Labels", "", hint="What it is told apart from, with commas.", visible=False
            )
            self.find = gui.add_button("Find")
        self.threshold = gui.add_slider(
            "Threshold", 0.0, 1.0, 0.01, 0.5, hint="The score from which something matches."
        )
        self.level: Any = gui.add_dropdown(
            "Level", (EVERY,), hint="Whole things or parts: of matches, and of codes as colours."
        )
        self.strategy = gui.add_dropdown(
            "Strategy", (USUAL,), initial_value=USUAL, hint="How the text is compared."
        )
        # Below what changes them: a slider that moves away is let go of.
        self.matches = gui.add_folder("Matches", visible=False)
        with self.matches:
            self.asked = gui.add_html("")
        ask = self._calls(lambda _: viewer.ask(self.text.value, self.labels.value))
        form.on_submit(ask)
        self.find.on_click(ask)
        self._on(self.threshold, viewer.ask_from)
        self._on(self.level, lambda value: viewer.ask_at(None if value == EVERY else value))
        self._on(self.strategy, lambda value: viewer.ask_by(None if value == USUAL else value))

    def _add_select(self) -> None:
        viewer, session = self._viewer, self._viewer.session
        self.by = self._gui.add_dropdown(
            "A click takes", WHAT, initial_value=WHAT[0], hint="All of what is clicked, or like it."
        )
        hide, isolate = session.hide, session.isolate
        self._buttons(
            "Selected",
            {
                "Hide": lambda: viewer.change(hide, "hidden"),
                "Isolate": lambda: viewer.change(isolate, "shown, all else hidden"),
                "Clear": viewer.clear,
            },
        )
        self._buttons("Hidden", {"Show all": viewer.show_all})

    def _add_change(self) -> None:
        gui, viewer = self._gui, self._viewer
        remove, extract = self._edit(Remove, "removed"), self._edit(Extract, "kept alone")
        self._buttons("Selected", {"Remove": remove, "Extract": extract})
        self.color = gui.add_rgb("Colour", (220, 60, 40))
        self._buttons(" ", {"Recolour": self._edit(self._recolor, "recoloured")})
        self.label = gui.add_text("Name", "", hint="What it is, in a word the scene knows.")
        self._buttons(" ", {"Set name": self._edit(lambda: Label(self.label.value), "named")})
        self._buttons("Changes", {"Undo": viewer.undo, "Redo": viewer.redo})

    def _add_save(self) -> None:
        gui, viewer = self._gui, self._viewer
        self.file = gui.add_text("File", "selection.ply", hint="In the folder of the viewer.")
        save = gui.add_button("Save selection", color=_GREY)
        shot = gui.add_button("Screenshot", color=_GREY)
        orbit = gui.add_button("Orbit video", color=_GREY, hint="Drawn on the CPU; takes a while.")
        save.on_click(self._calls(lambda _: viewer.save(self.file.value)))
        shot.on_click(self._calls(lambda event: viewer.take_screenshot(event.client), locks=False))
        orbit.on_click(self._calls(lambda event: viewer.take_orbit(event.client), locks=False))

    def _add_view(self) -> None:
        gui, viewer = self._gui, self._viewer
        self.coloring: Any = gui.add_dropdown("Colour by", (_NAMES["rgb"],))
        self.legend = gui.add_html("")
        self.cameras = gui.add_checkbox("Cameras", True)
        self.drawn = gui.add_html("")
        keys: dict[str, str] = {name: key for key, name in _NAMES.items()}
        self._on(self.coloring, lambda name: viewer.show_as(keys.get(name, str(name))))
        self._on(self.cameras, viewer.show_cameras)

    # What they show

    def _invitation(self) -> str:
        scene = self._viewer.session.scene
        if not len(scene):
            return "Nothing is here yet; what comes is shown at once."
        if not can_be_asked(scene):
            lacks = "no codes" if scene.codes is None else "codes, but its codebook is missing"
            return f"This scene has {lacks}: it can be looked at, not asked."
        names = " or ".join(f'"{name}"' for name, _ in most_common(scene, 2))
        return f"Look for something, such as {names or 'chair'}, or click a thing."

    def _list(self, hits: tuple[Hit, ...]) -> None:
        """Show matches; a button stays what it is while a map grows, so that it can be clicked."""
        self.matches.visible = bool(hits)
        cut = f"{LISTED} of {len(hits)} " if len(hits) > LISTED else ""
        asked = html.escape(f"{cut}for {self._viewer.session.text!r}, by score and size")
        _set(self.asked, f'<div style="{_SMALL_STYLE}">{asked}</div>', "content")
        listed = hits[:LISTED]
        while len(self._listed) > len(listed):
            self._listed.pop().remove()
        with self.matches:
            while len(self._listed) < len(listed):
                self._listed.append(self._button_of_hit(len(self._listed)))
        for number, (button, hit) in enumerate(zip(self._listed, listed, strict=True), 1):
            name = hit.name if len(hit.name) <= 24 else f"{hit.name[:23]}…"
            _set(button, f"{number}  {name}  {hit.score:.2f}", "label")
            _set(button, f"{counted(hit.count, 'Gaussian')}; select it and fly there.", "hint")

    def _button_of_hit(self, number: int) -> "viser.GuiButtonHandle":
        button = self._gui.add_button("", color=_GREY)
        button.on_click(self._calls(lambda event: self._viewer.go_to(number, event.client)))
        return button

    # What they do

    def _recolor(self) -> Operation:
        return Recolor([value / 255 for value in self.color.value])

    def _edit(self, operation: Callable[[], Operation], done: str) -> Callable[[], None]:
        viewer = self._viewer
        return lambda: viewer.change(lambda: viewer.session.edit(operation()), done)

    def _buttons(self, label: str, actions: Mapping[str, Callable[[], None]]) -> None:
        """Small buttons on one line."""
        group = self._gui.add_button_group(label, tuple(actions))
        group.on_click(self._calls(lambda event: actions[event.target.value]()))

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


def _offer(dropdown: Any, options: list[str] | tuple[str, ...], value: str) -> None:
    """Let a dropdown have these options, and this value; nothing is sent that is so already."""
    if tuple(dropdown.options) != tuple(options):
        dropdown.options = tuple(options)
    _set(dropdown, value)


def _set(control: Any, value: object, name: str = "value") -> None:
    if getattr(control, name) != value:
        setattr(control, name, value)


def _is(one: object, other: object) -> bool:
    return one is other
