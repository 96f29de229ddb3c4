"""What `ffsplat stream` is asked for, checked before seconds go into importing torch."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffsplat.cli.writing import SceneOutput
from ffsplat.errors import UsageError

if TYPE_CHECKING:
    from ffsplat.stream.engine.settings import EngineSettings
    from ffsplat.stream.server.settings import ServerSettings
    from ffsplat.stream.sources import Source

CLIENTS = ("-", "ws")
"""A SOURCE that means: frames come from clients of the server alone."""

CLIENT_SPLATS = 1 << 21
"""Gaussians for which a copy of the map has room: that of a client, a page, a recording."""

HANG_SECONDS = {"live": 30.0, "recorded": 600.0}
"""Patience with one frame in the network: a camera goes on meanwhile, a recording waits."""


@dataclass(frozen=True)
class Plan:
    """The options that make no part of it, checked; what was not asked for is None."""

    out: SceneOutput | None
    record: Path | None
    publish: tuple[str, ...]
    query: tuple[str, ...]
    overwrite: bool
    drop: Any
    checkpoint: Path | None
    checkpoint_every: int
    resume: bool
    server: "ServerSettings | None"
    view: bool
    seconds: float | None
    max_frames: int | None

    def engine(self, source: "Source | None") -> "EngineSettings":
        """The settings of the engine for frames from a source, or from clients (None)."""
        from ffsplat.stream.engine.settings import EngineSettings

        live = source is None or source.live
        hang = HANG_SECONDS["live" if live else "recorded"]
        return EngineSettings(
            drop=self.drop or ("latest" if live else "block"),
            hang_s=hang,
            stuck_s=2 * hang,
            block_s=3 * hang,
            checkpoint=self.checkpoint,
            checkpoint_every=self.checkpoint_every,
        )


def plan_of(source: str | None, options: dict[str, Any]) -> Plan:
    """The plan of the command's options; UsageError and OutputError for what cannot be."""
    serve = options["serve"] or options["view"]
    out, record = _scene_output(options), options["record"]
    if not (out or record or serve or options["publish"]):
        raise UsageError(
            "nothing would come of the map", "give --out, --serve, --view, --record or --publish"
        )
    for text in options["publish"]:
        if text != "ros2" and not text.startswith("zenoh:"):
            raise UsageError(f"nobody publishes to {text}", "--publish takes ros2, or zenoh:KEY")
    if options["query"] and not (record or options["publish"]):
        raise UsageError("nobody would be told what --query finds", "give --record or --publish")
    if source in (None, *CLIENTS) and not serve:
        raise UsageError("there is no source of frames", "give SOURCE, or --serve to clients")
    if options["max_splats"] > CLIENT_SPLATS and (serve or record or options["publish"]):
        why = f"a map that others follow has at most {CLIENT_SPLATS} Gaussians"
        raise UsageError(why, f"give --max-splats {CLIENT_SPLATS}, or --out alone")
    if options["resume"] and not options["checkpoint"]:
        raise UsageError("--resume needs the folder to go on from", "give --checkpoint FOLDER")
    _check_files(source, out, record, options["overwrite"])
    kept = (
        "record", "publish", "query", "overwrite", "drop", "checkpoint", "checkpoint_every",
        "resume", "view", "seconds", "max_frames",
    )  # fmt: skip
    server = _server_settings(options) if serve else None
    return Plan(out=out, server=server, **{name: options[name] for name in kept})


def _scene_output(options: dict[str, Any]) -> SceneOutput | None:
    """Where the scene goes and in what format; the options of formats are taken out."""
    path = options.pop("out")
    output = SceneOutput.take(path or Path("none.ply"), options, options["overwrite"])
    if path is None and output.options:
        raise UsageError("an option of a format needs the scene to write", "give --out")
    return output if path else None


def _check_files(
    source: str | None, out: SceneOutput | None, record: Path | None, overwrite: bool
) -> None:
    """No output may be in the way of another, of the source, or of what must not be replaced."""
    from ffsplat.io import check_output

    if out:
        out.check()
    if record:
        check_output(record, overwrite)
    paths = [*(out.files if out else []), *([record] if record else [])]
    places = [os.path.realpath(path) for path in (*paths, *([source] if source else []))]
    if len(set(places)) < len(places):
        raise UsageError("two of the files are the same", "give each a name of its own")


def _server_settings(options: dict[str, Any]) -> "ServerSettings":
    from ffsplat.stream.server.settings import ServerSettings

    names = ("host", "port", "token_file", "tls_cert", "tls_key")
    return ServerSettings(**{name: options[name] for name in names})
