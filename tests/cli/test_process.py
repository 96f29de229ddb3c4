"""The command as a process: signals, streams, environment, and what it imports."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ffsplat.cli import environment

STAND_IN = """
import os, sys, time
from types import ModuleType
import click
from ffsplat.cli import app, main

@click.command()
@click.pass_obj
def command(console):
{body}

module = ModuleType("ffsplat.cli.trial")
module.command = command
sys.modules["ffsplat.cli.trial"] = module
app.COMMANDS["trial"] = ""
sys.argv = ["ffsplat", "trial"]
sys.exit(main())
"""


def start(body: str, module: Path | None = None, **settings) -> subprocess.Popen:
    """A process that runs a stand-in command, up to the line that it writes first.

    The code is given by `-c`, or written to the file `module` and run by `-m`.
    """
    code = STAND_IN.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    way = ["-c", code]
    if module:
        module.write_text(code)
        way, settings = ["-m", module.stem], {**settings, "cwd": module.parent}
    process = subprocess.Popen(
        [sys.executable, *way], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def ffsplat(*arguments: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ffsplat", *arguments], capture_output=True, timeout=60, **settings
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_in_one_line(number, code):
    process = start("console.result('ready'); time.sleep(60)")
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err == b"error: interrupted\n"


def test_a_swallowed_interrupt_is_raised_again():
    process = start("""
        class Stubborn:
            def __del__(self):
                console.result("ready")
                time.sleep(60)
        Stubborn()
        time.sleep(60)
    """)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"error: interrupted" in err


def test_an_interrupt_that_a_library_turns_into_its_own_error_is_still_an_interrupt():
    process = start("""
        try:
            console.result("ready")
            time.sleep(60)
        except KeyboardInterrupt:
            raise ImportError("half imported")
    """)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"error: interrupted\n")


def test_an_interrupt_while_a_class_is_made_during_imports():
    # Python 3.11 turns any error inside __set_name__ into a RuntimeError.
    code = textwrap.dedent("""
        import os, signal, sys, time

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "ffsplat.cli.app":
                    class Field:
                        def __set_name__(self, owner, name):
                            os.kill(os.getpid(), signal.SIGINT)
                            time.sleep(20)
                    class Owner:
                        field = Field()

        sys.meta_path.insert(0, Finder())
        from ffsplat.cli import main
        sys.exit(main())
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20)
    assert (done.returncode, done.stderr) == (130, b"error: interrupted\n")


def test_an_interrupt_inside_exec_keeps_the_exit_code(tmp_path: Path):
    body = """
        code = "console.result('ready'); time.sleep(60)"
        exec(code, {**globals(), **locals()})
    """
    process = start(body, module=tmp_path / "stand_in.py")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"error: interrupted\n")


def test_a_signal_after_the_work_does_not_spoil_the_exit_code():
    process = start("""
        class Slow:
            def __del__(self, write=os.write, sleep=time.sleep):
                write(1, b"ready\\n")
                sleep(1)
        sys.kept = Slow()  # finalised when the interpreter ends
        return 3
    """)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (3, b"")


def test_an_ignored_signal_stays_ignored():
    process = start(
        "console.result('ready'); time.sleep(1); console.result('done')",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, b"done\n", b"")


def test_an_interrupted_output_leaves_nothing(tmp_path: Path):
    process = start(f"""
        from ffsplat.io.atomic import atomic_output
        with atomic_output({str(tmp_path / "a.ply")!r}) as file:
            file.write(b"half")
            console.result("ready")
            time.sleep(60)
    """)
    assert list(tmp_path.iterdir())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_ends_the_output_not_the_work(tmp_path: Path):
    done = tmp_path / "done"
    process = start(f"""
        for line in range(100_000):
            console.result(str(line))
        open({str(done)!r}, "w").close()
        return 3
    """)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 3
    assert process.stderr.read() == b""
    assert done.exists()


def test_help_into_a_closed_pipe_is_silent():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "ffsplat", "--help"], stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_device_as_stdout_is_an_output_error():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ffsplat", "--help"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 5
    assert [line.split(b": ")[0] for line in done.stderr.splitlines()] == [b"error", b"hint"]


def test_no_streams_at_all():
    done = subprocess.run(
        [sys.executable, "-m", "ffsplat", "--help"], preexec_fn=lambda: os.closerange(0, 3)
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"PYTHONWARNINGS": "error"},
        {"PYTHONOPTIMIZE": "1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"NO_COLOR": "1", "TERM": "dumb"},
        {"HOME": "/nonexistent"},
        {"HOME": None},
        {"COLUMNS": "20"},
    ],
    ids=str,
)
def test_help_in_odd_environments(changes):
    settings = {**os.environ, **changes}
    done = ffsplat("--help", env={k: v for k, v in settings.items() if v is not None})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"infer" in done.stdout


def test_a_file_name_that_the_locale_cannot_show_is_escaped():
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = ffsplat("check", "caf\u00e9.ply", env={**os.environ, **plain})
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert b"Traceback" not in done.stderr


def test_help_imports_neither_torch_nor_numpy():
    code = """
import sys
from ffsplat.cli import main
sys.argv = ["ffsplat", "--help"]
assert main() == 0
heavy = {"torch", "numpy", "numba", "PIL", "timm", "huggingface_hub", "open_clip", "safetensors"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    done = ffsplat("--version")
    assert done.stdout.decode() == f"ffsplat {version('ffsplat')}\n"


def test_threads_wait_passively_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr("warnings.simplefilter", lambda action: None)
    environment.prepare_environment()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    environment.prepare_environment()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_help_needs_no_writable_folder():
    code = """
import os, sys, tempfile
os.access = lambda *_, **__: False
tempfile._get_default_tempdir = lambda: open("/no usable folder")
from ffsplat.cli import main
sys.argv = ["ffsplat", "--help"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_drawing_needs_no_folder_for_compiled_kernels(tmp_path):
    (tmp_path / "file").touch()
    code = f"""
import numba.core.caching as caching
caching._CacheLocator.ensure_cache_path = lambda self: open({str(tmp_path / "file" / "x")!r})
from ffsplat.render import kernel
print(kernel.count_pairs.stats.cache_path)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
