"""The `ffsplat` command; importing it imports nothing, so that even an early Ctrl-C is heard."""

import sys


def main() -> int:
    """Run the command line and return its exit code (see `ffsplat.cli.failures`)."""
    signals = None
    try:
        from ffsplat.cli.environment import StopSignals, prepare_environment

        with StopSignals() as signals:
            prepare_environment()
            from ffsplat.cli.app import run

            return run(None, signals)
    except KeyboardInterrupt:  # while modules were imported: later ones are heard in `run`
        sys.stderr.write("error: interrupted\n")
        return (signals and signals.exit_code) or 130
