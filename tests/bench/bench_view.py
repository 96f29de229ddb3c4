"""The viewer at a million Gaussians: `python -m tests.bench.bench_view [--count N] [--page N]`.

Prints seconds (best of several runs) of what the viewer does for a click or a word, and of new
colours beside viser's own. Then, in Chromium, seconds from picture to picture while the camera is
dragged, of a picture at rest, and until all is shown again after a motion and after a word: as the
viewer shows a scene of `--page` Gaussians to this browser, with all of them at every moment, and of
the same scene as one file of HTML. A browser without a GPU draws in software. `--page 0` leaves
that out.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffsplat import codes
from ffsplat.codebook import lexicon_codebook
from ffsplat.page.write import write
from ffsplat.types import SH_C0, Gaussians, Scene
from ffsplat.view import Viewer, viewing
from ffsplat.view.packing import shapes
from ffsplat.view.paint import COLORINGS, MOST_SEEN, Look, paint
from ffsplat.view.screen import Packer, Picture
from ffsplat.view.session import Session
from ffsplat.view.viewer import PANEL_WIDTH
from tests.stream.server.browser import Chromium, Page
from tests.view.pages import open_viewer, until

THINGS = ("table", "chair", "sofa", "wall", "floor", "bed")
HALF = np.array([3.0, 1.5, 3.0])
SIZE = (700, 400)
DRAG_SECONDS = 10.0
PATIENCE = 600.0


def room(count: int) -> Scene:
    """The six walls of a box of 6 x 3 x 6, seen from within; each wall is a thing."""
    random = np.random.default_rng(0)
    axes, sides = random.integers(0, 3, count), random.integers(0, 2, count)
    means = random.uniform(-1, 1, (count, 3))
    means[np.arange(count), axes] = 2 * sides - 1
    labels = 2 * axes + sides
    spacing = np.sqrt(2 * (6 * 6 + 2 * 6 * 3) / count)
    book = lexicon_codebook()
    ids = np.array([book.names.index(name) for name in THINGS])[labels]
    colors = 0.5 + 0.4 * np.sin(3 * means)
    quaternions = random.standard_normal((count, 4))
    gaussians = Gaussians(
        (means * HALF).astype(np.float32),
        random.uniform(0.3 * spacing, spacing, (count, 3)).astype(np.float32),
        (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).astype(np.float32),
        random.uniform(0.3, 1, count).astype(np.float32),
        ((colors - 0.5) / SH_C0).astype(np.float32)[:, None],
    )
    code = codes.from_pairs(ids[:, None].astype(np.int16), np.ones((count, 1)), 4)
    return Scene(gaussians, code, labels.astype(np.int32), book, provenance={"model": "bench"})


def best(action: Callable[[], object], times: int = 3) -> float:
    """Seconds of the quickest run."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def viser_recolors(words: np.ndarray, scene: Scene) -> np.ndarray:
    """New colours in viser's own handle, which also copies what it sends: the rival."""
    from viser import GaussianSplatHandle

    GaussianSplatHandle._pack_rgba(words, scene.gaussians.colors)
    return words.copy()


def time_server(count: int) -> None:
    """What a word, a click or a move costs on the server."""
    scene = room(count)
    session, packer = Session(scene, Path()), Packer()
    gaussians, visible = scene.gaussians, np.ones(count, bool)
    session.ask("table")

    def parts(budget: int) -> object:
        picture = Picture(gaussians, colors, gaussians.opacities, visible)
        return packer.parts(picture, budget, np.eye(4))

    print(f"{count} Gaussians, seconds:")
    for coloring in COLORINGS:
        session.show_as(coloring)
        say(f"colour by {coloring}", best(session.colors))
    shiny = replace(gaussians, sh=np.repeat(gaussians.sh, 16, axis=1))[:MOST_SEEN]
    look = Look(world_from_camera=np.eye(4, dtype=np.float32))
    seen = best(lambda: paint(replace(scene[: len(shiny)], gaussians=shiny), look))
    say(f"degree 3, {len(shiny)}", seen)
    colors = session.colors()
    say("ask", best(lambda: session.ask("table")))
    say("click", best(lambda: session.click(np.zeros(3), np.array([0.0, 0, 1]), "instance")))
    say("shapes, once", best(lambda: shapes(gaussians)))
    say("pack a tenth (moving)", best(lambda: parts(count // 10)))
    ours, words = best(lambda: parts(count)), shapes(gaussians)
    rival = best(lambda: viser_recolors(words, scene))
    say("pack all in new colours", ours)
    print(f"  viser recolours them in  {rival:.3f} ({rival / ours:.1f} times that)")


def say(what: str, seconds: float) -> None:
    """One line of a table."""
    print(f"  {what:24} {seconds:.3f}")


WATCH = """(() => {
  window.drawn = [];
  let isNew = false;
  const own = WebGL2RenderingContext.prototype;
  for (const name of ["Arrays", "Elements", "ArraysInstanced", "ElementsInstanced"]) {
    const draw = own[`draw${name}`];
    own[`draw${name}`] = function (...given) { isNew = true; return draw.apply(this, given); };
  }
  (function next() {
    if (isNew) window.drawn.push(performance.now());
    isNew = false;
    requestAnimationFrame(next);
  })();
})()"""
"""Keep the time of every picture that is drawn; to be said once to a page."""


def drag(page: Page, seconds: float) -> np.ndarray:
    """Milliseconds between pictures while the mouse drags the camera to and fro."""
    start, x, y = time.monotonic(), 150, 200
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", buttons=1)
    page.get("window.drawn.length = 0")
    while time.monotonic() - start < seconds:
        x = 100 + int(50 * (1 + np.sin(2 * (time.monotonic() - start))))
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        time.sleep(0.02)
    times = page.get("window.drawn")
    page.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left")
    return np.diff([0.0, *times][-max(len(times), 2):])  # fmt: skip


def time_page(chromium: Chromium, scene: Scene, everything: bool) -> None:
    """What a browser does with it."""
    with viewing(scene, port=0) as (viewer, url), chromium.tab() as page:
        if everything:
            viewer.screen.pace.budget = lambda moving: len(scene)
        start = time.monotonic()
        open_viewer(page, url, *SIZE)
        rest(viewer)
        opened = time.monotonic() - start
        page.get(WATCH)
        drag(page, DRAG_SECONDS)  # after which it is known what the page can bear
        rest(viewer)
        gaps = drag(page, DRAG_SECONDS)
        moving = viewer.screen.drawn[0]
        still = seconds_of(lambda: rest(viewer))
        viewer.do(lambda: viewer.ask("table"))
        asked = seconds_of(lambda: rest(viewer))
        print(f"  {'all, always' if everything else 'as it is shown'}:")
        report(gaps, still, asked, opened)
        say("at rest, a picture", picture_seconds(viewer))
        shown, total = viewer.screen.drawn
        print(f"  {'drawn':24} {moving} moving, {shown} at rest, of {total}")


def time_html(chromium: Chromium, scene: Scene, file: Path) -> None:
    """What a browser does with the scene as one page of HTML."""
    with chromium.tab() as page:
        write(scene, file, queries="table")
        start = time.monotonic()
        page.open(file.as_uri(), SIZE[0] - PANEL_WIDTH, SIZE[1])
        settle(page)
        opened = time.monotonic() - start
        page.get(WATCH)
        drag(page, DRAG_SECONDS)
        settle(page)
        gaps = drag(page, DRAG_SECONDS)
        still = seconds_of(lambda: settle(page))
        page.get("window.drawn.length = 0")
        page.click("#questions button")
        asked = seconds_of(lambda: settle(page))
        print(f"  as one file of {file.stat().st_size / 1e6:.0f} MB:")
        report(gaps, still, asked, opened)


def settle(page: Page) -> None:
    """Wait until nothing moves on a page of HTML, and all of it is drawn."""
    page.wait("window.ffsplat.view.isSettled && window.drawn?.length !== 0", PATIENCE)


def seconds_of(action: Callable[[], object]) -> float:
    """Seconds of one run."""
    return best(action, 1)


def report(gaps: np.ndarray, still: float, asked: float, opened: float) -> None:
    """Say how long pictures took: `gaps` are milliseconds between them, the rest seconds."""
    if len(gaps):
        middle, late = np.percentile(gaps, [50, 95])
        say("moving, a picture, p50", middle / 1000)
        say("moving, a picture, p95", late / 1000)
    else:
        print(f"  {'moving, a picture':24} none in {DRAG_SECONDS} s")
    say("sharp after a motion", still)
    say("lit after a word", asked)
    say("opened", opened)


def picture_seconds(viewer: Viewer) -> float:
    """Seconds in which the page draws a picture of a few pixels when it is asked to, at rest."""
    (client,) = viewer._server.get_clients().values()
    return best(lambda: client.get_render(16, 16, timeout=PATIENCE))


def rest(viewer: Viewer) -> None:
    """Wait until no camera moves, and the page has drawn all that it was given since."""
    screen = viewer.screen
    until(lambda: screen.drawn[0] > 0, "nothing was drawn", PATIENCE)
    until(lambda: bool(viewer._server.get_clients()), "no page came", PATIENCE)
    until(lambda: screen.is_settled, "the picture never settled", PATIENCE)
    (client,) = viewer._server.get_clients().values()
    client.get_render(16, 16, timeout=PATIENCE)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="Gaussians of the server")
    parser.add_argument("--page", type=int, default=200_000, help="Gaussians of the page; 0: none")
    options = parser.parse_args()
    time_server(options.count)
    if options.page:
        scene = room(options.page)
        print(f"{options.page} Gaussians in Chromium, {SIZE[0] - PANEL_WIDTH} x {SIZE[1]} pixels:")
        with tempfile.TemporaryDirectory() as folder:
            chromium = Chromium(Path(folder))
            try:
                time_page(chromium, scene, everything=False)
                time_page(chromium, scene, everything=True)
                time_html(chromium, scene, Path(folder) / "scene.html")
            except pytest.skip.Exception as reason:
                print(f"  skipped: {reason}")
            finally:
                chromium.stop()


if __name__ == "__main__":
    main()
