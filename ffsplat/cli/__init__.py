"""The `ffsplat` command; importing it imports nothing, so that even an early Ctrl-C is heard."""


def main() -> int:
    """Run the command line and return its exit code (see `ffsplat.cli.failures`)."""
    from ffsplat.cli.environment import StopSignals, prepare_environment

    with StopSignals() as signals:
        prepare_environment()
        from ffsplat.cli.app import run

        return run(None, signals)
