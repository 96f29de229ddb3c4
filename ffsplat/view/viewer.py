"""A scene on pages of a browser: the session, its controls and its picture, tied together."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from ffsplat.errors import FFSplatError
from ffsplat.text import counted
from ffsplat.types import Scene
from ffsplat.view.detail import FIRST
from ffsplat.view.film import Film
from ffsplat.view.frusta import Frusta, Photo, photos_of, pose_of, wxyz_of
from ffsplat.view.legend import name_of
from ffsplat.view.outputs import screenshot
from ffsplat.view.panel import Panel
from ffsplat.view.screen import Picture, Screen
from ffsplat.view.server import LOCALHOST, PORT, open_server
from ffsplat.view.session import Session
from ffsplat.view.standing import Stand, before, first_stand

if TYPE_CHECKING:
    import viser

MOST = 2_000_000
"""Gaussians that a page is given at most: 32 bytes each."""

PANEL_WIDTH = 300
"""Pixels of the controls."""

TRIAL_SECONDS = 30.0
"""A page that draws no small picture in this time is slow, or not looked at."""

SLOW_SECONDS = 10.0
"""A page that took longer for one is not asked for a second."""

NEWS = 1.5
"""Factor on the number of Gaussians from which another trial says something new."""


class Viewer:
    """Shows a session on the pages of a server. Its methods are what the controls call.

    All pages show the same; `do` runs what a user asked for, one thing at a time, and shows an
    error as one line.
    """

    def __init__(
        self,
        server: "viser.ViserServer",
        session: Session,
        photos: dict[str, Photo],
        *,
        max_splats: int = MOST,
        can_edit: bool = True,
    ):
        self.session = session
        self.groups: Int[np.ndarray, " n"] | None = None
        self._server = server
        self._lock = threading.RLock()
        self._stopped = False
        self._tried, self._trying = 0, threading.Lock()
        self._pose: Float32[np.ndarray, "4 4"] | None = None
        self.screen = Screen(server, self._picture, max_splats)
        self.frusta = Frusta(server, photos, self._fly)
        self.panel = Panel(server, self, can_edit)
        self.film = Film(lambda action: self.do(action, locks=False), self.panel.say)
        self._place_first_camera()
        self.screen.on_drawn = self._drawn
        server.on_client_connect(self._welcome)
        server.on_client_disconnect(lambda client: self.screen.forget(client.client_id))
        server.scene.on_click()(self._click)

    def start(self) -> None:
        """Begin to show."""
        self.refresh()
        self.screen.start()

    def stop(self) -> None:
        """Show no more; a file that is being saved is saved, and no other one is begun."""
        self.film.stop()
        with self._lock:
            self._stopped = True
        self.screen.stop()

    def refresh(self, *, cameras: bool = True) -> None:
        """Show the session as it is now."""
        with self._lock:
            if cameras:
                self.frusta.show(self.session.scene)
            self.panel.refresh()
        self.screen.request()

    def do(self, action: Callable[[], None], *, locks: bool = True) -> None:
        """Run what a user asked for; whatever goes wrong is one line on the page."""
        try:
            with self._lock if locks else nullcontext():
                if self._stopped:
                    return
                action()
        except FFSplatError as error:
            self.panel.say(f"{error} ({error.hint})" if error.hint else str(error), error=True)
        except Exception as error:
            logging.getLogger(__name__).debug("an action failed", exc_info=True)
            self.panel.say(f"internal: {type(error).__name__}: {error}"[:200], error=True)
        with self._lock:
            if self._stopped:
                return
            self.panel.refresh()  # also what was refused, which the controls still show
        self.screen.request()

    def follow(
        self,
        scene: Scene,
        groups: Int[np.ndarray, " n"],
        carry: Callable[[Bool[np.ndarray, " m"]], Bool[np.ndarray, " n"]],
    ) -> None:
        """Show a map that has changed; `carry` says what a choice among its Gaussians is now."""
        with self._lock:
            session, found = self.session, self._found_words()
            first = not len(session.scene)
            self.groups = groups
            try:
                session.follow(scene, carry(session.selected), carry(session.hidden))
            except FFSplatError as error:  # such as a codebook that no longer knows the question
                self.panel.say(str(error), error=True)
            if (
                found and self.panel.said == found
            ):  # the answer is what stands there, and it changed
                self._say_found()
            if first and len(scene):
                self._place_first_camera()
                if not session.text:
                    self.panel.invite()
        self.refresh()

    # What the controls call

    def ask(self, text: str, labels: str = "") -> None:
        """Find things by text; `labels`, with commas, are for strategies that tell things apart."""
        if labels:
            self.session.labels = tuple(filter(None, map(str.strip, labels.split(","))))
        self.session.ask(text)
        self._say_found()

    def ask_by(self, strategy: str | None) -> None:
        """Answer by another strategy."""
        self.session.ask_by(strategy)
        self._say_found()

    def ask_from(self, threshold: float) -> None:
        """Answer from another score on."""
        self.session.ask_from(threshold)
        self._say_found()

    def ask_at(self, level: str | None) -> None:
        """Answer with another level."""
        self.session.ask_at(level)
        self._say_found()

    def show_as(self, coloring: str) -> None:
        """Colour the scene in another way."""
        self.session.show_as(coloring)

    def show_cameras(self, visible: bool) -> None:
        """Show or hide the cameras."""
        self.frusta.set_visible(visible)

    def go_to(self, number: int, client: "viser.ClientHandle | None") -> None:
        """Select a match and bring it before the camera of a page."""
        hit = self.session.select_hit(number)
        if client is not None:
            means = self.session.scene.gaussians.means[hit.rows].astype(float)
            self._look_at(client, hit.center.astype(float), means)
        self._say_selected()

    def change(self, action: Callable[[], None], done: str) -> None:
        """Do something with what is selected, and say so."""
        count = int(self.session.selected.sum())
        action()
        self.panel.say(f"{counted(count, 'Gaussian')} {done}")

    def clear(self) -> None:
        """Select nothing."""
        self.session.clear()
        self._say_selected()

    def show_all(self) -> None:
        """Hide nothing."""
        count = int(self.session.hidden.sum())
        self.session.show_all()
        shown = f"{counted(count, 'Gaussian')} shown again"
        self.panel.say(shown if count else "nothing was hidden")

    def undo(self) -> None:
        """Take the last change back."""
        can = self.session.can_undo
        self.session.undo()
        self.panel.say("the last change is undone" if can else "there is nothing to undo")

    def redo(self) -> None:
        """Make a change again that was taken back."""
        can = self.session.can_redo
        self.session.redo()
        self.panel.say("the change is made again" if can else "there is nothing to redo")

    def save(self, name: str) -> None:
        """Write what is selected into the folder of the viewer."""
        names = " and ".join(path.name for path in self.session.save(name))
        self.panel.say(f"saved {names} in {self.session.folder}")

    def take_screenshot(self, client: "viser.ClientHandle") -> None:
        """Send a page a picture of itself."""
        self.panel.say("taking a picture")
        client.send_file_download("ffsplat.png", screenshot(client), save_immediately=True)
        self.panel.say("the picture is among the downloads")

    def take_orbit(self, client: "viser.ClientHandle") -> None:
        """Send a page a video around the scene as it is shown, unless the page goes before."""
        with self._lock:
            scene = self.session.pictured()

        def deliver(name: str, content: bytes) -> None:
            client.send_file_download(name, content, save_immediately=True)

        self.film.start(scene, lambda: client.client_id in self._server.get_clients(), deliver)

    # What pages do

    def _welcome(self, client: "viser.ClientHandle") -> None:
        page = client.client_id

        def moved(camera: "viser.CameraHandle") -> None:
            self._pose = pose_of(camera.wxyz, camera.position)
            self.screen.note_camera(page, self._pose)

        client.camera.on_update(moved)
        self._try_out(client)

    def _drawn(self) -> None:
        """A picture was sent: say what it leaves out, and see what the pages make of it."""
        drawn, total = self.screen.drawn
        if self.screen.is_moving:
            return
        self.panel.note_drawn(drawn, total)
        self.panel.explain()  # depth is measured from where the camera stands now
        if total <= FIRST:
            return
        if not 1 / NEWS < drawn / max(self._tried, 1) < NEWS:
            for client in self._server.get_clients().values():
                threading.Thread(target=self._try_out, args=(client,), daemon=True).start()

    def _try_out(self, client: "viser.ClientHandle") -> None:
        """Let a page draw a small picture of what it has: its time says what it can bear."""
        count, seconds = self.screen.drawn[0], TRIAL_SECONDS
        if len(self.session.scene) <= FIRST or not self._trying.acquire(blocking=False):
            return
        self._tried = count
        try:
            for _ in range(2):  # the first one also waits for what was sent
                start = time.monotonic()
                client.get_render(16, 16, timeout=TRIAL_SECONDS)
                seconds = time.monotonic() - start
                if seconds > SLOW_SECONDS:
                    break
        except (RuntimeError, TimeoutError):
            if client.client_id not in self._server.get_clients():
                return
        finally:
            self._trying.release()
        self.screen.told(count, seconds)

    def _click(self, event: Any) -> None:
        def act() -> None:
            origin, direction = (np.array(v) for v in (event.ray_origin, event.ray_direction))
            self.session.click(origin, direction, self.panel.by.value)
            self._say_selected()

        self.do(act)

    def _picture(self) -> Picture:
        with self._lock:
            session, gaussians = self.session, self.session.scene.gaussians
            session.look = replace(session.look, world_from_camera=self._pose)
            plain = session.look.coloring in ("rgb", "depth")
            return Picture(
                gaussians,
                session.colors(),
                gaussians.opacities if plain else gaussians.opacities_of_meaning,
                ~session.hidden,
                self.groups,
            )

    # Cameras

    def _place_first_camera(self) -> None:
        stand, camera = first_stand(self.session.scene), self._server.initial_camera
        self._server.scene.set_up_direction(tuple(stand.up))
        camera.up, camera.fov, camera.near = stand.up, stand.fov, stand.near
        camera.position, camera.look_at = stand.position, stand.look_at

    def _fly(self, client: "viser.ClientHandle", pose: Float[np.ndarray, "4 4"]) -> None:
        """Show a page what a camera saw."""
        with client.atomic():
            client.camera.position = pose[:3, 3]
            client.camera.wxyz = wxyz_of(pose)

    def _look_at(
        self,
        client: "viser.ClientHandle",
        center: Float[np.ndarray, "3"],
        points: Float[np.ndarray, "n 3"],
    ) -> None:
        """Turn to a thing, and go near, or back, until it fills the view."""
        camera = client.camera
        fov = 2 * float(np.arctan(min(camera.aspect, 1.0) * np.tan(camera.fov / 2)))  # the smaller
        stand = Stand(camera.position, camera.look_at, camera.up_direction, fov, camera.near)
        with client.atomic():
            camera.position = before(stand, center, points)
            camera.look_at = center

    # What is said

    def _say_found(self) -> None:
        self.panel.say(self._found_words())

    def _found_words(self) -> str:
        session, found = self.session, self.session.found
        if found is None:
            text = session.text
            return f"Nothing is here yet; {text!r} is looked for in what comes." if text else ""
        count = len(session.hits)
        matches = f"{counted(count, 'match')} for {session.text!r} by {found.strategy}"
        return ". ".join([matches if count else self._why_none(), *found.notes])

    def _why_none(self) -> str:
        """What kept a question from being answered."""
        found, text = self.session.found, self.session.text
        assert found is not None  # for it has no hits
        best = float(found.scores.max(initial=0))
        if best < found.threshold or best <= 0:
            return (
                f"nothing matches {text!r}: the best score is {best:.2f} of {found.threshold:.2f}"
            )
        near = int((found.scores >= found.threshold).sum())
        return f"no thing matches {text!r}, only {counted(near, 'scattered Gaussian')}"

    def _say_selected(self) -> None:
        session = self.session
        count = int(session.selected.sum())
        if not count:
            self.panel.say("nothing selected")
            return
        name = name_of(session.scene[session.selected])
        said = f"{counted(count, 'Gaussian')} selected{f': {name}' if name else ''}"
        self.panel.say(said if session.is_marked else f"{said}, in their new colour")


@contextmanager
def viewing(
    scene: Scene,
    *,
    folder: Path | None = None,
    photos: list[Path] | None = None,
    host: str = LOCALHOST,
    port: int = PORT,
    title: str = "ffsplat",
    max_splats: int = MOST,
    can_edit: bool = True,
) -> Iterator[tuple[Viewer, str]]:
    """A viewer and the URL of its page, while the block runs.

    `folder` is where selections are saved (default: the working folder), `photos` are folders in
    which the photos of the scene's cameras are looked for; port 0 is a free one. Raises UsageError
    for an address that cannot be had.
    """
    with open_server(host, port, title) as (server, url):
        server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        server.gui.main_panel.dock_right()
        server.gui.main_panel.set_width(PANEL_WIDTH)
        session = Session(scene, folder or Path.cwd())
        found = photos_of(scene.cameras, photos or [])
        viewer = Viewer(server, session, found, max_splats=max_splats, can_edit=can_edit)
        viewer.start()
        try:
            yield viewer, url
        finally:
            viewer.stop()
