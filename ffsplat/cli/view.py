"""`ffsplat view`: a scene, or a map that grows, in a browser."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options
from ffsplat.errors import StreamError, UsageError

if TYPE_CHECKING:
    from ffsplat.types import Scene
    from ffsplat.view import Viewer

SCHEMES = ("ws://", "wss://")

SERVING = "ffsplat stream SOURCE --serve starts a server"

MAX_TOKEN_FILE = 64 << 10


@click.command("view", short_help=COMMANDS["view"])
@click.argument("scene", metavar="SCENE|ws://HOST:PORT")
@click.option("--photos", type=FILE, help="Folder with the photos of the cameras.")
@click.option("--cameras", type=FILE, help="Input cameras, from `infer --cameras-out`.")
@click.option("--codebook", type=FILE, help="The codebook of the scene, if not beside it.")
@click.option("--host", default="127.0.0.1",
              help="Address to serve at; on any but this one the URL holds a secret.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8080, help="0: a free one.")
@click.option("--browser/--no-browser", default=True, help="Open the page.")
@click.option("--max-splats", type=click.IntRange(min=1), default=2_000_000,
              help="Send a page at most so many Gaussians.")  # fmt: skip
@click.option("--token-file", type=FILE, help="Secret that the stream's server asks for.")
@common_options
@click.pass_obj
def command(
    console: Console,
    scene: str,
    photos: Path | None,
    cameras: Path | None,
    codebook: Path | None,
    host: str,
    port: int,
    browser: bool,
    max_splats: int,
    token_file: Path | None,
) -> int:
    """See SCENE in a browser: ask it, select, change, save. Ctrl-C ends it.

    Or follow the map of a server that `ffsplat stream --serve` started, by its address. What is
    selected is saved in the working folder.
    """
    is_live = scene.startswith(SCHEMES)
    _refuse(scene, photos, cameras, codebook, token_file)
    token = "" if token_file is None else _token(token_file)
    from ffsplat.cli.following import TICK, GentleStop
    from ffsplat.stream.server.settings import is_loopback
    from ffsplat.view.live import empty_scene
    from ffsplat.view.serving import announce
    from ffsplat.view.viewer import viewing

    if not is_loopback(host):
        console.warning("whoever has the address below sees the scene and can save files here")
    console.progress("reading the scene")
    loaded = empty_scene() if is_live else _load(Path(scene), codebook, cameras)
    folders = [folder for folder in (photos, None if is_live else Path(scene).parent) if folder]
    showing = viewing(
        loaded,
        photos=folders,
        host=host,
        port=port,
        title=f"ffsplat: {scene if is_live else Path(scene).name}",
        max_splats=max_splats,
        can_edit=not is_live,
    )
    with GentleStop() as stop, showing as (viewer, url), contextlib.ExitStack() as stack:
        if is_live:
            stack.enter_context(_following(scene, viewer, token, console))
        announce(url, browser, console.note)
        if photos is not None:
            _say_missing(photos, loaded, len(viewer.frusta.photos), console)
        while stop.received is None:
            time.sleep(TICK)
    return stop.exit_code


def _refuse(scene: str, *options: Path | None) -> None:
    photos, cameras, codebook, token_file = options
    is_live = scene.startswith(SCHEMES)
    for name, value in (("photos", photos), ("cameras", cameras), ("codebook", codebook)):
        if is_live and value is not None:
            raise UsageError(f"--{name} is for a scene that is a file", "leave it out for a stream")
    if "://" in scene and not is_live:
        raise UsageError(f"{scene} is no address of a stream", "ws://HOST:PORT")
    if token_file is not None and not is_live:
        raise UsageError("--token-file is for a stream", "give its address, ws://HOST:PORT")
    if photos is not None and not photos.is_dir():
        raise UsageError(f"{photos} is no folder", "--photos takes the folder of the photos")


def _say_missing(photos: Path, scene: "Scene", found: int, console: Console) -> None:
    """Say why cameras are shown without their photos."""
    wanted = 0 if scene.cameras is None else len(scene.cameras)
    if not wanted:
        console.warning("the scene has no cameras to show photos of: --cameras gives them")
    elif found < wanted:
        missing = f"{wanted - found} of {wanted} photos of the cameras"
        console.warning(f"{missing} are not in {photos}, or cannot be read")


def _token(path: Path) -> str:
    """The first token of a file as `ffsplat stream --token-file` reads it."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TOKEN_FILE).decode()
    except (OSError, UnicodeDecodeError) as error:
        hint = "give the file that the server was started with"
        raise UsageError(f"cannot read the token file {path}: {error}", hint) from error
    lines = (line.split() for line in text.splitlines())
    token = next((words[0] for words in lines if words and words[0][0] != "#"), None)
    if token is None:
        raise UsageError(f"the token file {path} holds no token", "a secret a line")
    return token


def _load(path: Path, codebook: Path | None, cameras: Path | None) -> "Scene":
    from dataclasses import replace

    from ffsplat.io import load_scene, read_cameras

    scene = load_scene(path, codebook)
    return replace(scene, cameras=read_cameras(cameras)) if cameras else scene


@contextlib.contextmanager
def _following(url: str, viewer: "Viewer", token: str, console: Console) -> Iterator[None]:
    from ffsplat.view.live import Follower

    follower = Follower(url, viewer, token, console.note)
    try:
        follower.start()
        yield
    except StreamError as error:
        raise StreamError(str(error), error.hint or SERVING) from error
    finally:
        follower.stop()
