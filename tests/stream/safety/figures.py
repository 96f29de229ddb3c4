"""What was asked of a stream's safety, what was found, and how the process is measured."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    case: str
    asked: str
    found: str
    holds: bool

    def __str__(self) -> str:
        return (
            f"{'holds' if self.holds else 'FAILS':<6} {self.case:<62} {self.asked:<30} {self.found}"
        )


def resident(pid: int) -> int:
    """Bytes of a process that are in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def forget_peak(pid: int) -> None:
    """Measure the peak of a process from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """Most bytes of a process that were in memory since `forget_peak`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def open_files(pid: int) -> int:
    """Descriptors that a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
