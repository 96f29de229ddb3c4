"""The `ffsplat` command; importing it imports nothing, so that even an early Ctrl-C is heard."""

import sys


def main() -> int:
    """Run the command line and return its exit code (see `ffsplat.cli.failures`)."""
    try:
        from ffsplat.cli.environment import StopSignals, leave, prepare_environment
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130
    with StopSignals() as signals:
        try:
            prepare_environment()
            from ffsplat.cli.app import run

            return leave(run(None, signals))
        except BaseException:
            # A signal while modules were imported (later ones are heard in `run`); Python may have
            # wrapped it in an error of its own, as it does while a class is made.
            if signals.received is None:
                raise
            sys.stderr.write("error: interrupted\n")
            return signals.exit_code or 130
