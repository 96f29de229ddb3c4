"""`ffsplat stream`: a camera's frames in, a bounded map out, for as long as it runs."""

import contextlib
import logging
import threading
import time
import webbrowser
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.console import FILE, Console, common_options
from ffsplat.cli.environment import silence_downloads
from ffsplat.cli.failures import SKIPPED
from ffsplat.cli.loading import LOADING, loading_options
from ffsplat.cli.numbers import Within
from ffsplat.cli.stream_plan import CLIENTS, Plan, plan_of
from ffsplat.cli.writing import format_options
from ffsplat.errors import OutputError, StreamError, UsageError

if TYPE_CHECKING:
    from ffsplat.cli.following import GentleStop, Note, Pump
    from ffsplat.stream.delta import MapDelta
    from ffsplat.stream.engine.engine import Engine
    from ffsplat.stream.frame import Frame, Verdict
    from ffsplat.stream.mapper import Mapper
    from ffsplat.stream.ros.sink import Sink
    from ffsplat.stream.sources import Source

COUNT = click.IntRange(min=1)
POSITIVE = Within(min=0, min_open=True)
PLAYING = ("fps", "realtime", "topic", "no_poses")
"""Options that are the source's affair."""

STOP_SECONDS = 9.0
"""For frames that wait, when the stream is to end: all is to be over within ten."""

BAD = ("undecodable", "too_large", "invalid")
"""Frames of a recording that are no frames: the command then says so by its exit code."""


def _log_lines(context: click.Context, _: click.Parameter, value: bool) -> None:
    """Have all that is said on stderr said in JSON, and who comes and goes as well."""
    if value:
        from ffsplat.stream.engine.log import JsonFormatter

        context.find_root().obj.lines = JsonFormatter()
        ours = logging.getLogger("ffsplat")
        ours.setLevel(min(ours.getEffectiveLevel(), logging.INFO))
        ours.getChild("api").setLevel(logging.WARNING)  # it tells of every window


@click.command("stream", short_help=COMMANDS["stream"])
@click.argument("source", required=False)
@click.option(
    "-o", "--out", type=FILE, help="The scene to write at the end, in any format of convert."
)
@click.option("--record", type=FILE, help="Record frames, poses and map for robots (MCAP).")
@click.option("--publish", multiple=True, metavar="WHERE",
              help="Publish them while it runs: ros2, or zenoh:KEY.")  # fmt: skip
@click.option("--query", multiple=True, metavar="TEXT",
              help="Mark there what this finds in the map, again and again.")  # fmt: skip
@click.option("--serve", is_flag=True, help="Serve the map while it grows, until Ctrl-C.")
@click.option("--view", is_flag=True, help="Serve, and open the page in a browser.")
@loading_options
@click.option("--fps", type=POSITIVE, help="Photos a second of a folder, frames used of a video.")
@click.option("--realtime", type=POSITIVE, metavar="SPEED",
              help="Play a recording as if it were live; 1 is its own speed.")  # fmt: skip
@click.option("--topic", help="Topic of the pictures, where a bag has several.")
@click.option("--no-poses", is_flag=True, help="Take no poses of a bag, of ROS or Zenoh (tf).")
@click.option("--drop", type=click.Choice(["latest", "keyframe", "block"]), show_default=False,
              help="Which frame goes if they come too fast: the oldest, the one with least that is "
              "new, or none: the source waits.  [default: block; latest if live]")  # fmt: skip
@click.option("--max-splats", type=click.IntRange(1, 1 << 24), default=500_000,
              help="Gaussians in the map, at most.")  # fmt: skip
@click.option("--window", type=click.IntRange(2, 32), default=4,
              help="Views that go through the network together.")  # fmt: skip
@click.option("--max-frames", type=COUNT, help="Stop after so many frames.")
@click.option("--seconds", type=POSITIVE, help="Stop after so long.")
@click.option("--checkpoint", type=FILE, help="Folder in which the state is saved again and again.")
@click.option("--checkpoint-every", type=COUNT, default=20, help="Keyframes between two saves.")
@click.option("--resume", is_flag=True, help="Go on from the newest state in that folder.")
@click.option("--host", default="127.0.0.1", help="Address to serve at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, help="0: a free one.")
@click.option("--token-file", type=FILE, help="Secrets that let clients in, one a line.")
@click.option("--tls-cert", type=FILE, help="Certificate of the server (PEM).")
@click.option("--tls-key", type=FILE, help="Its key (PEM).")
@format_options(hidden=True)
@click.option("--overwrite", is_flag=True, help="Replace the written files if they exist.")
@click.option("--log-json", is_flag=True, is_eager=True, expose_value=False, callback=_log_lines,
              help="Log sessions and requests too, each line on stderr a JSON object.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@common_options
@click.pass_obj
def command(console: Console, source: str | None, as_json: bool, **options: Any) -> int:
    """Map what a camera sees, frame by frame, in bounded memory.

    SOURCE is a folder or quoted pattern of photos, a video file, webcam or webcam:1, an address
    rtsp://..., a .bag or .mcap file, a rosbag2 folder, ros2:/TOPIC or zenoh:KEY. Without it, or
    with "-", frames come from clients of the server. Ctrl-C ends the stream, and the scene is
    written. The page shows the map and asks it; for more, `ffsplat view ws://HOST:PORT/stream`.
    """
    loading = {name: options.pop(name) for name in LOADING}
    playing = {name: options.pop(name) for name in PLAYING}
    plan = plan_of(source, options)
    if console.quiet or as_json:
        silence_downloads()
    with contextlib.ExitStack() as stack:
        if plan.server is not None:
            from ffsplat.stream.server.serve import check

            check(plan.server)
        frames = _open(source, playing)
        if frames is not None:
            stack.callback(frames.close)
        mapper = _mapper(console, plan, loading, options)
        return _run(console, plan, frames, mapper, as_json)


def _open(source: str | None, playing: dict[str, Any]) -> "Source | None":
    """The source, None if frames come from clients alone."""
    given = {name: value for name, value in playing.items() if value not in (None, False)}
    if source is None or source in CLIENTS:
        if given:
            option = next(iter(given)).replace("_", "-")
            raise UsageError(f"--{option} is for a source", "give SOURCE")
        return None
    from ffsplat.stream.sources import open_source

    return open_source(source, **given)


def _mapper(
    console: Console, plan: Plan, loading: dict[str, Any], options: dict[str, Any]
) -> "Mapper":
    """A mapper of the model, empty or as it was saved."""
    console.progress("loading the network")
    from ffsplat.api import load
    from ffsplat.stream.engine.checkpoint import resume

    model = load(loading.pop("model"), **loading)
    bounds = {name: options[name] for name in ("max_splats", "window")}
    mapper = model.stream(**bounds)
    if not plan.resume or plan.checkpoint is None:
        return mapper

    def restore(path: Path) -> "Mapper":
        return type(mapper).load(path, mapper.predictor, mapper.settings)

    saved = resume(plan.checkpoint, restore)
    if saved is None:
        console.note(f"nothing to go on from in {plan.checkpoint}: the map begins anew")
        return mapper
    return saved


def _run(
    console: Console, plan: Plan, source: "Source | None", mapper: "Mapper", as_json: bool
) -> int:
    """Stream until the end, write what was asked for, and say how it went."""
    from ffsplat.cli.following import GentleStop, Pump, follow
    from ffsplat.cli.stream_report import facts_of, progress, show
    from ffsplat.stream.engine.engine import Engine
    from ffsplat.stream.engine.pauses import pause_less

    pause_less()
    engine = Engine(mapper, plan.engine(source))
    start = time.monotonic()

    def tell() -> None:
        console.progress(progress(engine, time.monotonic() - start))

    try:
        with GentleStop() as stop, _telling(engine, plan) as note:
            pump = None if source is None else Pump(source, engine, plan.max_frames, note)
            with _working(console, engine, plan, source is None, note):
                if pump is not None:
                    pump.start()
                follow(engine, pump, stop, plan.seconds, plan.server is not None, tell)
                alive, seconds = engine.alive, time.monotonic() - start
                if pump is not None:
                    pump.stop()
                until = time.monotonic() + STOP_SECONDS
            if not _end(engine, until, patient=stop.received is None):
                _give_up(console, plan, stop)
            failed = pump is not None and pump.failure is not None
            cut = stop.received is not None or failed or not alive
            written = _save(console, mapper, plan, cut)
    finally:
        engine.stop(0)  # for who leaves in between
    written += [] if plan.record is None else [plan.record]
    facts = facts_of(engine, source, written, mapper.predictor.provenance, seconds)
    if as_json:
        console.json(facts)
    elif not console.quiet:
        show(console, facts)
    if not alive:
        _die(engine)
    code = _code(stop, pump, source, facts)
    if stop.received is None and not engine.saved:
        why = f"the last frames are in no checkpoint of {plan.checkpoint}"
        raise OutputError(why, "the log says why; make room there")
    return code


def _die(engine: "Engine") -> NoReturn:
    """Raise what ended an engine that does not live."""
    if isinstance(engine.failure, StreamError):
        raise engine.failure
    why = "the mapper failed: the stream ended before its time"
    raise StreamError(why, "--debug shows where") from engine.failure


def _end(engine: "Engine", until: float, patient: bool) -> bool:
    """Stop the engine by that time, or be `patient` with a frame in the network; False in vain."""
    ended = engine.stop(max(0.0, until - time.monotonic()))
    return ended or (patient and engine.stop(engine.settings.hang_s))


def _give_up(console: Console, plan: Plan, stop: "GentleStop") -> None:
    """Say that the network keeps the map; an error unless nobody wanted a scene of it."""
    if plan.out is None and stop.received is not None:
        console.warning("the network does not come back")
        return
    raise StreamError(
        "the network does not come back: no scene is written",
        "--checkpoint saves the map meanwhile",
    )


@contextlib.contextmanager
def _working(
    console: Console, engine: "Engine", plan: Plan, takes_frames: bool, note: "Note | None"
) -> Iterator[None]:
    """Have the engine work while the block runs, and serve its map if that was asked for.

    `note` is told of the frames that clients send. The end of a server also stops the engine.
    """
    if plan.server is None:
        engine.start()
        yield
        return
    from ffsplat.stream.server.serve import ServerThread
    from ffsplat.stream.server.warm import warm_up

    settings = replace(plan.server, takes_frames=takes_frames)
    server = ServerThread(engine, settings=settings, note=note)
    address = server.start()
    threading.Thread(target=warm_up, name="ffsplat-questions", daemon=True).start()
    try:
        engine.start()
        console.note(f"serving at {address.stream}, page at {address.page}")
        if plan.view and not webbrowser.open(address.page):
            console.warning(f"no browser could be started: open {address.page}")
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def _telling(engine: "Engine", plan: Plan) -> Iterator["Note | None"]:
    """Record and publish what happens while the block runs, to whom was asked for.

    Gives what is to be told of frames, None if nobody wants to know.
    """
    if plan.record is None and not plan.publish:
        yield None
        return
    from ffsplat.stream.replica.replica import Replica

    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(contextlib.closing(sink)) for sink in _sinks(plan)]
        replica = Replica()

        def take(delta: "MapDelta") -> None:
            replica.apply(delta)
            for sink in sinks:
                sink.on_delta(delta, replica)

        def note(frame: "Frame", verdict: "Verdict") -> None:
            for sink in sinks:
                sink.on_frame(frame, verdict)

        stack.callback(engine.subscribe(take))
        yield note


def _sinks(plan: Plan) -> Iterator["Sink"]:
    """What the options ask for."""
    from ffsplat.stream.ros.output import MapMessages
    from ffsplat.stream.ros.publish import open_sink
    from ffsplat.stream.ros.record import Recorder

    if plan.record is not None:
        yield Recorder(plan.record, plan.overwrite, MapMessages(queries=plan.query))
    for text in plan.publish:
        yield open_sink(text, MapMessages(queries=plan.query))


def _save(console: Console, mapper: "Mapper", plan: Plan, cut: bool) -> list[Path]:
    """Write the scene; a stream that was `cut` short may have none."""
    if plan.out is None:
        return []
    console.progress("writing the scene")
    try:
        scene = mapper.scene()
    except StreamError as error:
        if not cut:
            raise
        console.warning(str(error))
        return []
    written = plan.out.write(scene)
    plan.out.note(scene, console)
    return written


def _code(
    stop: "GentleStop", pump: "Pump | None", source: "Source | None", facts: dict[str, Any]
) -> int:
    """The exit code; raises what ended the stream before its time."""
    if stop.received is not None:
        return stop.exit_code
    if pump is not None and pump.failure is not None:
        raise pump.failure
    recorded = source is not None and not source.live
    return SKIPPED if recorded and any(name in facts["frames"]["dropped"] for name in BAD) else 0
