"""`python -m ffsplat` is the `ffsplat` command."""

import sys

from ffsplat.cli import main

sys.exit(main())
