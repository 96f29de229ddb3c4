"""Every exception becomes one `error:` line, one `hint:` line and its exit code."""

import errno
import logging
import os

import numpy as np
import pytest
import torch
from command import run

from ffsplat import errors
from ffsplat.cli.failures import failure_of


def raising(error):
    def body(console):
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.FFSplatError("x"), 1),
        (errors.UsageError("x"), 2),
        (errors.UnknownWord("x"), 2),
        (errors.ImageError("x"), 1),
        (errors.SceneFileError("x"), 1),
        (errors.CheckpointError("x"), 1),
        (errors.WeightsMissing("x"), 6),
        (errors.MemoryLimit("x"), 4),
        (errors.OutputError("x"), 5),
        (MemoryError(), 4),
        (torch.OutOfMemoryError("x"), 4),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 4),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), 4),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 5),
        (PermissionError(errno.EACCES, "Permission denied", "a.ply"), 5),
        (OSError("4000 requested and 12 written"), 5),
        (RuntimeError("surprise"), 1),
        (KeyError("surprise"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=repr,
)
def test_exit_code_and_form(stand_in, error, code):
    stand_in(raising(error))
    outcome = run("trial")
    assert outcome.code == code
    lines = outcome.err.splitlines()
    if isinstance(error, KeyboardInterrupt):
        assert lines == ["error: interrupted"]
    else:
        assert [line.partition(": ")[0] for line in lines] == ["error", "hint"]
    assert outcome.out == ""


def test_an_error_without_a_hint_gets_that_of_its_nearest_class(stand_in):
    stand_in(raising(errors.LicenseNotAccepted("x")))
    assert "models list" in run("trial").err
    stand_in(raising(errors.UnknownWord("x")))
    assert run("trial").err == "error: x\nhint: --help tells what fits\n"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, "permissions"), (errno.ENOSPC, "make room"), (errno.EEXIST, "another name"),
        (errno.EIO, "look after the disk"), (None, "look after the disk"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_has_its_hint(number, told):
    assert told in errors.system_hint(OSError(number, "no"))


def test_message_and_hint_are_told(stand_in):
    stand_in(raising(errors.OutputError("a.ply already exists", "--overwrite replaces it")))
    assert run("trial").err == "error: a.ply already exists\nhint: --overwrite replaces it\n"


def test_a_message_cannot_break_its_line_or_steer_the_terminal(stand_in):
    stand_in(raising(errors.ImageError("a\nb\x1b[31m\udcff.jpg: bad")))
    assert run("trial").err.startswith("error: a b\\x1b[31m\\udcff.jpg: bad\nhint: ")


def test_internal_fault_names_debug_and_debug_shows_the_traceback(stand_in):
    stand_in(raising(KeyError("surprise")))
    short = run("trial").err
    assert "internal: KeyError: 'surprise'" in short
    assert "--debug" in short
    assert "Traceback" not in short
    assert "Traceback" in run("trial", "--debug").err
    assert "Traceback" in run("--debug", "trial").err


def test_numpy_out_of_memory_is_told_with_its_size():
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 60, np.uint8)
    failure = failure_of(caught.value)
    assert failure.exit_code == 4
    assert "1.00 EiB" in failure.message
    assert "--max-views" in str(failure.hint)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "no such command 'nonsense'"),
        (["trial", "--nonsense"], "no such option"),
        (["trial", "extra"], "unexpected extra argument"),
        (["--quiet=3", "trial"], "--quiet"),
    ],
)
def test_usage_errors(stand_in, arguments, told):
    stand_in(lambda console: 0)
    outcome = run(*arguments)
    assert outcome.code == 2
    error, hint = outcome.err.splitlines()
    assert error.startswith("error: ")
    assert told in error
    assert hint.startswith("hint: see: ffsplat")
    assert hint.endswith("--help")


def test_no_arguments_print_the_help_and_fail():
    outcome = run()
    assert outcome.code == 2
    assert "Commands:" in outcome.err
    assert outcome.out == ""


def test_returned_code_is_the_exit_code(stand_in):
    stand_in(lambda console: 3)
    assert run("trial").code == 3
    stand_in(lambda console: None)
    assert run("trial").code == 0


def test_quiet_silences_notes_but_not_results(stand_in):
    def body(console):
        console.warning("odd")
        console.result("found")

    stand_in(body)
    loud, quiet = run("trial"), run("trial", "-q")
    assert (loud.out, loud.err) == ("found\n", "warning: odd\n")
    assert (quiet.out, quiet.err) == ("found\n", "")


@pytest.mark.parametrize(("flags", "heard"), [([], "W"), (["-v"], "WI"), (["-vv"], "WID")])
def test_verbosity(stand_in, flags, heard):
    def body(console):
        log = logging.getLogger("ffsplat.trial")
        log.warning("W")
        log.info("I")
        log.debug("D")
        logging.getLogger("another.package").warning("L")

    stand_in(body)
    lines = run("trial", *flags).err.splitlines()
    expected = list(heard) + (["L"] if flags else [])
    assert [line.split(": ")[1] for line in lines] == expected


def test_nothing_is_left_behind_by_a_run(stand_in):
    root = logging.getLogger()
    before = list(root.handlers), root.level
    stand_in(lambda console: None)
    run("trial", "-vv")
    assert (root.handlers, root.level) == before
