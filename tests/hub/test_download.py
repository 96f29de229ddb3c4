"""Downloads from a hub on this machine, which misbehaves in every way we know of."""

import json
import os
import socket
import struct
import subprocess
import sys
import time

import huggingface_hub
import huggingface_hub.constants
import pytest
from fake_hub import (
    COMMIT,
    NEXT_COMMIT,
    blobs,
    body,
    cache,
    cut,
    nothing_broken_in_the_cache,
    right,
    saying,
    sha256,
    silence,
    status,
    trickle,
)

from ffsplat import hub
from ffsplat.errors import CheckpointError, WeightsDamaged, WeightsMissing

STORE = r"^store:.*model\.safetensors"


def test_download_then_work_without_the_network(published, folder, caplog, monkeypatch):
    found = hub.resolve("org/m")
    assert (found.name, found.revision, found.license) == ("org/m", COMMIT, "CC0-1.0")
    assert right(found, folder)
    assert not any(".bin" in path for path in published.paths)
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        f"downloading 0.1 MB of org/m into {cache()}"
    ]
    hub.load_checkpoint(found.path)

    published.asked.clear()
    monkeypatch.setattr(socket.socket, "connect", None)
    assert hub.resolve("org/m") == hub.resolve("org/m", offline=True) == found
    assert hub.resolve(f"org/m@{COMMIT}") == hub.resolve("hf-hub:org/m") == found
    assert published.asked == []


def test_a_branch_is_asked_for_and_a_first_download_stays(published, impatient):
    first = hub.resolve("org/m")
    published.commit = NEXT_COMMIT
    assert hub.resolve("org/m") == first
    assert hub.resolve("org/m@main").revision == NEXT_COMMIT
    assert hub.resolve("org/m").revision == NEXT_COMMIT
    assert hub.resolve(f"org/m@{COMMIT}", offline=True) == first
    published.fail(".", silence)
    assert hub.resolve("org/m", revision="main").revision == NEXT_COMMIT


def test_a_hub_that_cannot_be_reached_leaves_the_cache_with_a_warning(published, impatient, caplog):
    found = hub.resolve("org/m")
    published.fail(".", silence)
    assert hub.resolve("org/m@main") == hub.resolve("org/m", refresh=True) == found
    assert "the hub cannot be reached (" in caplog.text
    assert "); using org/m from the local cache" in caplog.text


def test_offline_and_not_cached_ends_at_once(published, monkeypatch):
    start = time.perf_counter()
    for name in ("org/m", f"org/m@{COMMIT}"):
        with pytest.raises(
            WeightsMissing, match="not in the local cache and --offline is"
        ) as raised:
            hub.resolve(name, offline=True)
        assert "run once online: ffsplat models download org/m" in str(raised.value.hint)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsMissing, match="--offline is set"):
        hub.resolve("org/m")
    assert time.perf_counter() - start < hub.download.PATIENCE
    assert published.asked == []


def hanging_name(published, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(30))


def black_hole(published, monkeypatch):
    """An address that takes connections, and nobody who serves them."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    monkeypatch.setattr(socket.socket, "keep", server, raising=False)
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)


def closed_port(published, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")


DEAD = {
    "name that never resolves": hanging_name,
    "black hole": black_hole,
    "closed port": closed_port,
    "silence": lambda hub, _: hub.fail(".", silence),
    "a byte now and then": lambda hub, _: hub.fail(".", trickle),
    "silence after the commit": lambda hub, _: hub.fail("/tree/", silence),
    "silent store": lambda hub, _: hub.fail("^store", silence),
    "store with a byte now and then": lambda hub, _: hub.fail("^store", trickle),
    "not a hub": lambda hub, _: hub.fail(".", saying(b"<html>log in to the hotel")),
    "endless answer": lambda hub, _: hub.fail(".", saying(b" " * (5 << 20))),
    "broken down": lambda hub, _: hub.fail(".", status(503)),
    "asks to wait for long": lambda hub, _: hub.fail(".", status(429, Retry_After="300")),
    "sends in circles": lambda hub, _: hub.fail(".", status(302, Location="/again")),
}


@pytest.mark.parametrize("kill", DEAD.values(), ids=DEAD.keys())
def test_a_dead_network_ends_in_one_clear_error_in_time(published, monkeypatch, kill):
    monkeypatch.setattr("ffsplat.hub.download.PATIENCE", 0.3)
    monkeypatch.setattr("ffsplat.hub.download.STALL", 0.4)
    kill(published, monkeypatch)
    start = time.perf_counter()
    with pytest.raises(WeightsMissing, match="the hub cannot be reached: ") as caught:
        hub.resolve("org/m")
    assert time.perf_counter() - start < 3
    assert caught.value.exit_code == 6
    assert "--model ffsplat-tiny needs no network" in str(caught.value.hint)


DENIED = {
    "no such model": ("org/other", None, "there is no model org/other on the hub"),
    "no such revision": ("org/m@v9", None, "org/m has no revision v9"),
    "private": ("org/m", status(401), "there is no model org/m on the hub"),
    "bad token": (
        "org/m",
        status(401, X_Error_Message="Invalid credentials in Authorization header"),
        "the hub refuses your token",
    ),
    "gated": ("org/m", status(403, X_Error_Code="GatedRepo"), "org/m is gated"),
    "forbidden": ("org/m", status(403), "the hub refuses access to org/m"),
}


@pytest.mark.parametrize(("name", "fault", "message"), DENIED.values(), ids=DENIED.keys())
def test_what_the_hub_denies(published, name, fault, message):
    if fault:
        published.fail(".", fault)
    with pytest.raises(WeightsMissing, match=message) as caught:
        hub.resolve(name)
    if "revision" not in message:
        assert "hf auth login" in caught.value.hint or f"{published.url}/org/m" in caught.value.hint


def test_a_token_opens_a_private_model_and_is_not_shown_to_the_store(published, monkeypatch):
    published.token = "hf_secret"
    with pytest.raises(WeightsMissing, match="there is no model"):
        hub.resolve("org/m")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.resolve("org/m")
    tokens = {one.host: one.token for one in published.asked}
    assert tokens == {"hub": "Bearer hf_secret", "store": None}


def test_a_request_to_come_back_soon_is_granted(published, folder):
    published.fail("/tree/", status(429, Retry_After="0"), times=1)
    published.fail("^store", status(429, Retry_After="0"), times=2)
    assert right(hub.resolve("org/m"), folder)


def test_a_transfer_that_breaks_off_is_resumed_where_it_broke(published, folder):
    published.fail(STORE, cut(1000), times=3)
    assert right(hub.resolve("org/m"), folder)
    ranges = [one.range for one in published.asked if one.host == "store" and one.range]
    assert ranges == ["bytes=1000-", "bytes=2000-", "bytes=3000-"]
    assert nothing_broken_in_the_cache()


def test_a_later_process_goes_on_where_an_earlier_one_ended(published, folder):
    published.fail(STORE, cut(5000), times=1)
    published.fail(STORE, status(500))
    with pytest.raises(WeightsMissing, match="answers with error 500") as caught:
        hub.resolve("org/m")
    assert "the next run goes on from there" in caught.value.hint
    content = (folder / "model.safetensors").read_bytes()
    (partial,) = cache().glob("models--org--m/blobs/*.incomplete")
    assert partial.read_bytes() == content[:5000]
    with pytest.raises(WeightsMissing, match="--offline is set"):
        hub.resolve("org/m", offline=True)

    published.faults.clear()
    published.asked.clear()
    assert right(hub.resolve("org/m"), folder)
    assert "bytes=5000-" in [one.range for one in published.asked]
    assert nothing_broken_in_the_cache()


def test_a_store_that_cannot_resume_sends_all_again(published, folder):
    published.fail(STORE, cut(5000), times=1)
    published.fail(STORE, body(lambda content: content))
    assert right(hub.resolve("org/m"), folder)


def test_wrong_bytes_never_reach_the_cache(published, folder):
    published.fail(STORE, body(lambda content: content[:-1] + b"\1"))
    with pytest.raises(
        WeightsDamaged, match=r"model.safetensors of org/m arrived damaged: its sha256"
    ):
        hub.resolve("org/m")
    assert sha256(folder / "model.safetensors") not in blobs()
    with pytest.raises(WeightsMissing, match="--offline is set"):
        hub.resolve("org/m", offline=True)
    published.faults.clear()
    assert right(hub.resolve("org/m"), folder)


SIZES = {
    "shorter": (lambda content: content[:-7], True),
    "longer": (lambda content: content + b"more", True),
    "longer than announced": (lambda content: content + b"more" * 99, False),
}


@pytest.mark.parametrize(("change", "announce"), SIZES.values(), ids=SIZES.keys())
def test_wrong_sizes(published, folder, change, announce):
    published.fail(STORE, body(change, announce))
    if announce:
        with pytest.raises(
            WeightsDamaged, match=r"model.safetensors of org/m should have \d+ bytes"
        ):
            hub.resolve("org/m")
    else:  # what comes after the promised end is not read
        assert right(hub.resolve("org/m"), folder)


def test_a_small_file_is_compared_too(published):
    published.fail("resolve.*config.json", saying(b"{}"))
    with pytest.raises(WeightsDamaged, match=r"config\.json of org/m should have"):
        hub.resolve("org/m")


def test_a_hub_without_digests_in_its_list_is_held_to_its_headers(published, folder):
    def listing(handler):
        handler.json([
            {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name}
            for f in folder.iterdir()
        ])  # fmt: skip
        return True

    published.fail("/tree/", listing)
    published.fail(STORE, body(lambda content: b"\1" * len(content)), times=1)
    with pytest.raises(WeightsDamaged):
        hub.resolve("org/m")
    assert right(hub.resolve("org/m"), folder)


def test_only_safetensors_are_loaded(published, folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"it has pytorch_model\.bin, a pickle") as caught:
        hub.resolve("org/m")
    assert "convert-weights" in caught.value.hint
    assert not any("pytorch_model" in path for path in published.paths)


def test_a_huge_configuration_is_not_downloaded(published, folder):
    with (folder / "config.json").open("ab") as file:
        file.truncate(3 << 19)
    with pytest.raises(CheckpointError, match=r"config.json of org/m has 1572864 bytes"):
        hub.resolve("org/m")
    assert not any("resolve" in path for path in published.paths)


def test_names_of_files_cannot_leave_the_cache(published, folder, tmp_path):
    def listing(handler):
        entries = [{"type": "file", "path": f"../../../{name}", "size": 2, "oid": "0" * 40}
                   for name in ("x", "config.json", "model.safetensors")]  # fmt: skip
        handler.json(entries)
        return True

    published.fail("/tree/", listing, times=1)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WeightsMissing, match=r"has no config\.json"):
        hub.resolve("org/m")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("commit", ["../../../x", "0" * 39, None, 7, "A" * 40])
def test_a_commit_that_is_none_is_refused(published, commit):
    def info(handler):
        handler.json({"sha": commit})
        return True

    published.fail("/revision/", info)
    with pytest.raises(WeightsMissing, match="the hub names no commit"):
        hub.resolve("org/m")


def test_a_listing_of_several_pages(published, folder):
    def first_page(handler):
        if "cursor" in handler.path:
            return False
        link = f'<{published.url}{handler.path}?cursor=2>; rel="next"'
        handler.reply(json.dumps([{"type": "directory", "path": "a"}, 3]).encode(), 200,
                      {"Link": link})  # fmt: skip
        return True

    published.fail("/tree/", first_page)
    assert right(hub.resolve("org/m"), folder)


def on_a_terminal(published, *arguments) -> str:
    """What `ffsplat models download org/m` writes to a terminal of 80 columns."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run(
        [sys.executable, "-m", "ffsplat", "models", "download", "org/m", *arguments],
        env=os.environ | {
            "HF_ENDPOINT": published.url, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(cache()),
            "HF_HUB_DISABLE_PROGRESS_BARS": "0",  # commands that tests call with --json set it
        },
        stdout=theirs, stderr=theirs, check=True, timeout=60,
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    return os.read(ours, 100_000).decode()


def test_bars_show_on_a_terminal(published):
    written = on_a_terminal(published)
    assert "model.safetensors: 100%" in written
    assert f"folder     {cache()}" in written.replace("\r\n", "\n")


def test_no_bars_where_json_is_asked_for(published):
    assert "100%" not in on_a_terminal(published, "--json")


SCRIPT = """
from ffsplat import hub
print(hub.resolve("auto").name)
"""


def seconds(url: str, offline: str) -> float:
    """Wall time of a process that asks for "auto", its end included."""
    environment = os.environ | {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": offline}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "ffsplat-tiny\n", done.stderr
    return time.perf_counter() - start


def test_a_dead_network_costs_a_process_three_seconds_in_all(fake_hub):
    fake_hub.fail(".", trickle)
    without = seconds(fake_hub.url, "1")
    assert any(seconds(fake_hub.url, "0") - without < 3 for _ in range(2))
