"""What this process holds now, by Linux's own books, and whether it grows."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MEGABYTE = 1e6


def resident() -> float:
    """Memory that is in use now, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def descriptors() -> int:
    """Open files and sockets."""
    return len(list(Path("/proc/self/fd").iterdir()))


def threads() -> int:
    """Threads of the process, those of libraries too."""
    return len(list(Path("/proc/self/task").iterdir())) or threading.active_count()


def slope(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Growth a minute: the line with the least squares through values at moments."""
    return 60 * float(np.polyfit(seconds, values, 1)[0])
