"""What lies in the cache: half-written, damaged, written by others, by two at once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import COMMIT, blobs, cache, cut, nothing_broken_in_the_cache, right, sha256

from ffsplat import hub
from ffsplat.errors import OutputError, WeightsDamaged, WeightsMissing
from ffsplat.hub import WEIGHTS
from ffsplat.hub import cache as cached


def test_the_cache_is_the_one_of_huggingface_hub(published, folder):
    found = hub.resolve("org/m")
    theirs = huggingface_hub.snapshot_download(
        "org/m", cache_dir=cache(), local_files_only=True, allow_patterns=list(hub.FILES)
    )
    assert Path(theirs) == found.path
    (repository,) = huggingface_hub.scan_cache_dir(cache()).repos
    assert (repository.repo_id, repository.nb_files) == ("org/m", 4)
    assert {ref for revision in repository.revisions for ref in revision.refs} == {"main"}
    assert (found.path / "model.safetensors").resolve().name == sha256(folder / "model.safetensors")


def test_what_others_downloaded_is_used(published, folder):
    huggingface_hub.snapshot_download(
        "org/m", cache_dir=cache(), allow_patterns=list(hub.FILES), endpoint=published.url
    )
    published.asked.clear()
    assert right(hub.resolve("org/m"), folder)
    assert published.asked == []


def test_a_damaged_beginning_is_thrown_away_and_fetched_anew(published, folder):
    digest = sha256(folder / "model.safetensors")
    partial = cache() / "models--org--m" / "blobs" / f"{digest}.incomplete"
    partial.parent.mkdir(parents=True)
    size = (folder / "model.safetensors").stat().st_size
    for length in (100, size, size + 1):
        partial.write_bytes(b"x" * length)
        assert right(hub.resolve("org/m", refresh=True), folder)
        assert nothing_broken_in_the_cache()
        shutil.rmtree(cache() / "models--org--m" / "snapshots")
        (partial.with_name(digest)).unlink()


def test_a_disk_that_is_too_small_is_noticed_before_the_download(published, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"no space left on .* nothing was downloaded"):
        hub.resolve("org/m")
    assert not any("store" in one.host for one in published.asked)


def test_a_cache_that_cannot_be_written(published):
    cache().write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="cannot write to the hub's cache") as caught:
        hub.resolve("org/m")
    assert "HF_HUB_CACHE" in caught.value.hint


@pytest.mark.parametrize("lost", ["model.safetensors", "codebook.safetensors", "config.json"])
def test_a_half_written_cache_is_completed(published, folder, lost):
    found = hub.resolve("org/m")
    (found.path / lost).resolve().unlink()  # the link stays, and leads nowhere
    with pytest.raises(WeightsMissing, match="--offline is set"):
        hub.resolve(f"org/m@{COMMIT}", offline=True)
    assert hub.resolve(f"org/m@{COMMIT}") == found
    assert right(found, folder)


def test_damage_in_the_cache_is_refused_and_left_alone(published, folder):
    found = hub.resolve("org/m")
    blob = (found.path / "model.safetensors").resolve()
    content = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(content[:-1] + b"\1")
    before = blobs()
    for _ in range(2):
        with pytest.raises(WeightsDamaged, match="is damaged: its sha256 is not") as caught:
            hub.resolve("org/m", offline=True)
        assert caught.value.exit_code == 6
        assert "ffsplat models remove" in caught.value.hint
    assert blobs() == before
    blob.write_bytes(content)
    assert right(hub.resolve("org/m", offline=True), folder)


def test_contents_are_compared_once_and_again_when_their_time_changes(published, monkeypatch):
    found = hub.resolve("org/m")
    compared = []
    original = cached.digest_of
    monkeypatch.setattr(
        cached, "digest_of", lambda path, *rest: compared.append(path.name) or original(path, *rest)
    )
    hub.resolve("org/m")
    assert compared == []
    os.utime((found.path / "config.json").resolve())
    hub.resolve("org/m")
    assert compared == ["config.json"]
    (found.path.parents[1] / cached.VERDICTS).write_text("[" * 10_000)
    hub.resolve("org/m")
    assert len(compared) == 5


def test_a_cache_without_links_is_compared_as_well(published, folder, monkeypatch):
    def no_links(*_, **__):
        raise OSError("links are not supported here")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    found = hub.resolve("org/m")
    assert right(found, folder)
    assert not (found.path / "model.safetensors").is_symlink()
    assert hub.resolve("org/m", offline=True) == found
    (found.path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsDamaged):
        hub.resolve("org/m", offline=True)


SCRIPT = """
import sys, huggingface_hub
from ffsplat import hub
found = hub.resolve("org/m")
print(found.revision, sorted(file.name for file in found.path.iterdir()))
"""


def test_two_processes_at_once_end_with_the_right_bytes(published, folder):
    content = os.urandom(3 << 20)
    (folder / "codebook.safetensors").write_bytes(content)
    published.fail(r"^store:.*codebook", cut(1 << 20), times=2)
    environment = os.environ | {
        "HF_ENDPOINT": published.url, "HF_HUB_CACHE": str(cache()), "HF_HUB_OFFLINE": "0",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert {out for out, _ in ends} == {f"{COMMIT} {sorted(hub.FILES)}\n"}
    assert right(hub.resolve("org/m", offline=True), folder)
    assert nothing_broken_in_the_cache()


def test_an_interrupted_download_ends_soon_and_is_resumed(published, folder):
    content = (folder / "model.safetensors").read_bytes()

    def halt(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:5000])
        handler.hub.ended.wait()
        return True

    published.fail(r"^store:.*model\.safetensors", halt, times=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "ffsplat", "models", "download", "org/m"],
        env=os.environ | {"HF_ENDPOINT": published.url, "HF_HUB_OFFLINE": "0",
                          "HF_HUB_CACHE": str(cache())},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    partial = cache() / "models--org--m" / "blobs" / f"{sha256(folder / WEIGHTS)}.incomplete"
    deadline = time.monotonic() + 30
    while not (partial.exists() and partial.stat().st_size == 5000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert "error: interrupted\n" in process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert time.monotonic() - start < 3
    assert right(hub.resolve("org/m"), folder)
    assert "bytes=5000-" in [one.range for one in published.asked]
