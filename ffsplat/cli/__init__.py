"""The `ffsplat` command; importing it imports nothing, so that even an early Ctrl-C is heard."""

import sys


def main() -> int:
    """Run the command line and return its exit code (see `ffsplat.cli.failures`)."""
    try:
        from ffsplat.cli.environment import Interrupted, StopSignals, prepare_environment
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130
    with StopSignals() as signals:
        try:
            prepare_environment()
            from ffsplat.cli.app import run

            return run(None, signals)
        except Interrupted:  # while modules were imported: later ones are heard in `run`
            sys.stderr.write("error: interrupted\n")
            return signals.exit_code or 130
