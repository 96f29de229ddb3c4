"""What those see who watch over a stream: its metrics, its health, and its end."""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed

from ffsplat.prediction import Prediction
from ffsplat.stream.engine.settings import EngineSettings
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.protocol.control import Ack
from ffsplat.types import Views
from tests.stream.safety.figures import Figure
from tests.stream.safety.lives import Nursery
from tests.stream.safety.stack import BOUNDS, adds_up, predictor, stack, step, totals, until
from tests.stream.safety.test_floods import Gated
from tests.stream.server.talk import ask, client
from tests.stream.stub import StubPredictor

DRAIN = 10.0


def scraped(text: bytes) -> str:
    return text.split(b"\r\n\r\n", 1)[1].decode()


def metrics(frames: int) -> Figure:
    """All families, read by another parser, while frames come and one is damaged."""
    with stack() as served, client(served.address) as one:
        one.greet(want=("ack",))
        for number in range(frames):
            one.send(
                step(number, image=b"\xff\xd8\xff no picture") if number == 2 else step(number)
            )
            one.wait_for(Ack)
        text = scraped(ask(served.address, "/metrics")[1])
        families = {one.name: one for one in text_string_to_metric_families(text)}
    told = all(one.documentation and one.type != "unknown" for one in families.values())
    needed = {
        "ffsplat_frames_received", "ffsplat_frames_processed", "ffsplat_frames_dropped",
        "ffsplat_frames_queued", "ffsplat_stage_seconds", "ffsplat_map_splats", "ffsplat_ready",
        "ffsplat_degraded", "ffsplat_server_sessions", "ffsplat_server_refused",
    }  # fmt: skip
    reasons = {
        sample.labels["reason"]: sample.value
        for sample in families["ffsplat_frames_dropped"].samples
    }
    return Figure(
        "S16 metrics, read by prometheus_client",
        "parse, with help and type, add up",
        f"{len(families)} families, {len(needed - families.keys())} missing, "
        f"{reasons['undecodable']:g} undecodable",
        told and needed <= families.keys() and adds_up(text) and reasons["undecodable"] == 1,
    )


class Slow(StubPredictor):
    """Says nothing until it may."""

    gate: threading.Event

    def predict(self, views: Views, placed: int = 0) -> Prediction:
        assert self.gate.wait(30)
        return super().predict(views)


def readiness() -> Figure:
    """What is answered before the network has run, and after."""
    network = Slow(predictor().places, resolution=64)
    network.gate = threading.Event()
    with stack(Mapper(network, BOUNDS), ready=False) as served:
        paths = ("/healthz", "/readyz")
        before = [ask(served.address, path)[0] for path in paths]
        network.gate.set()
        until(lambda: served.engine.ready)
        after = [ask(served.address, path)[0] for path in paths]
    return Figure(
        "S16 /healthz and /readyz until the network is warm",
        "200 and 503, then 200 and 200",
        f"{before}, then {after}",
        (before, after) == ([200, 503], [200, 200]),
    )


def drained(nursery: Nursery, folder: Path) -> Figure:
    """SIGTERM to the command while frames are on their way; what became of them, and how soon."""
    life = nursery.live("--checkpoint", folder / "states", "--out", folder / "scene.ply")
    sent, verdicts, code = 0, Counter(), 0
    with client(life.address) as one:
        one.greet(want=("ack",), drop="block")
        for number in range(8):
            one.send(step(number))
            one.wait_for(Ack)
        for number in range(8, 12):
            one.send(step(number))
            sent += 1
        began = time.monotonic()
        os.kill(life.pid, signal.SIGTERM)
        try:
            while True:
                verdicts.update(ack.reason for ack in one.wait_for(Ack).frames)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
    end, seconds = life.wait(), time.monotonic() - began
    files = sorted(path.suffix for path in folder.iterdir() if path.is_file())
    return Figure(
        "SIGTERM with 4 frames on their way",
        f"<= {DRAIN:g} s, verdicts, 4503",
        f"{seconds:.2f} s, {dict(verdicts)}, {code}, exit {end}, files {files}",
        seconds <= DRAIN and code == 4503 and end == 143 and ".ply" in files
        and verdicts.total() <= sent,
    )  # fmt: skip


def stuck(drain: float) -> Figure:
    """An end while the network does not come back."""
    mapper = Gated()
    settings = EngineSettings(drop="block", hang_s=60, stuck_s=60)
    with stack(mapper, settings, drain=drain) as served:
        with client(served.address) as one:
            one.greet(want=())
            one.send(step(1))
            one.send(step(2))
            until(lambda: served.engine.counters().received == 2 and bool(mapper.begun), 10.0)
        began = time.monotonic()
        served.server.stop()
        seconds = time.monotonic() - began
        counts = served.engine.counters()
        mapper.gate.set()
    return Figure(
        "an end while the network hangs",
        f"<= {drain:g} s",
        f"{seconds:.2f} s, {counts.dropped['shutdown']} frames told so",
        seconds <= drain + 0.5 and counts.balanced and counts.queued == 0,
    )


def scrapes(nursery: Nursery, frames: int) -> Figure:
    """The books of the command, read again and again while frames come as fast as they can."""
    life = nursery.live("--drop", "latest")
    wrong, count, end = [], 0, threading.Event()

    def film() -> None:
        with client(life.address) as one:
            one.greet(want=())
            for number in range(frames):
                one.send(step(number))
                if end.wait(1 / 50):
                    return

    camera = threading.Thread(target=film, daemon=True)
    camera.start()
    while camera.is_alive():
        text = scraped(ask(life.address, "/metrics")[1])
        count += 1
        wrong += [] if adds_up(text) else [text]
    camera.join()
    sums = totals(text)
    life.end()
    return Figure(
        f"received = processed + dropped + queued, {frames} frames",
        "at every scrape",
        f"{len(wrong)} of {count} scrapes wrong, "
        f"{sums['ffsplat_frames_received_total']:g} received, "
        f"{sums['ffsplat_frames_dropped_total']:g} dropped",
        not wrong and count > 10,
    )


def test_metrics_are_read_by_another_parser_and_add_up():
    figure = metrics(6)
    assert figure.holds, figure


def test_a_stream_is_not_ready_before_its_network_has_run():
    figure = readiness()
    assert figure.holds, figure


def test_a_signal_drains_the_stream(nursery, tmp_path):
    figure = drained(nursery, tmp_path)
    assert figure.holds, figure


def test_a_network_that_hangs_does_not_hold_up_the_end():
    figure = stuck(2.0)
    assert figure.holds, figure


def test_the_books_agree_at_every_scrape(nursery):
    figure = scrapes(nursery, 100)
    assert figure.holds, figure


def figures(nursery: Nursery) -> list[Figure]:
    """All of them at full size."""
    with TemporaryDirectory() as folder:
        end = drained(nursery, Path(folder))
    return [metrics(20), readiness(), end, stuck(DRAIN), scrapes(nursery, 1000)]
