"""What is free, read from trees that look like /proc and /sys, and what a view takes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ffsplat.chunks import memory
from ffsplat.chunks.memory import (
    bytes_a_pass,
    bytes_a_view,
    free_memory,
    views_per_pass,
)
from ffsplat.config import ModelConfig
from ffsplat.model import FFSplat
from ffsplat.zoo.da3_names import PRESETS

CPU = torch.device("cpu")
GIB = 2**30
SMALL = ModelConfig(
    width=16, heads=1, view_blocks=1, cross_blocks=2, match_block=2, registers=1,
    decoder=(8, 8, 8), match_width=8, code_width=8,
)  # fmt: skip


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:  16777216 kB\nMemFree: 1 kB\nMemAvailable:  8388608 kB\n"}
V2 = {
    "proc/self/cgroup": "0::/user/job\n",
    "sys/fs/cgroup/user/memory.max": f"{6 * GIB}\n",
    "sys/fs/cgroup/user/memory.current": f"{3 * GIB}\n",
    "sys/fs/cgroup/user/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    "sys/fs/cgroup/user/job/memory.max": "max\n",
    "sys/fs/cgroup/user/job/memory.current": f"{GIB}\n",
}
V1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/a\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}",
    "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB // 2}\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (MEMINFO, 8 * GIB),
        (MEMINFO | V2, 4 * GIB),
        (MEMINFO | V1, 3 * GIB // 2),
        (MEMINFO | {"proc/self/cgroup": "nonsense\n"}, 8 * GIB),
        (MEMINFO | V1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"},
         8 * GIB),
        (MEMINFO | V1 | {"sys/fs/cgroup/memory/memory.usage_in_bytes": f"{9 * GIB}"}, 0),
    ],
    ids=["no groups", "v2, a limit above", "v1, in a container", "odd", "v1, no limit", "full"],
)  # fmt: skip
def test_free_memory_is_the_tightest_limit(tmp_path, files, free):
    assert free_memory(CPU, tree(tmp_path, files)) == free


def test_without_proc_half_of_what_is_built_in_is_free(tmp_path, monkeypatch):
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(memory.os, "sysconf", pages.get)
    assert free_memory(CPU, tmp_path) == 2048000
    assert free_memory(CPU, tree(tmp_path, {"proc/meminfo": "MemTotal: 1 kB\n"})) == 2048000


def test_free_memory_here_is_a_sane_number():
    assert 10**6 < free_memory(CPU) < 2**50


def test_a_view_takes_what_is_predicted_and_more():
    prediction = FFSplat(SMALL)(torch.rand(1, 3, 3, 32, 48))
    held = sum(value.nbytes for value in vars(prediction).values() if value is not None) / 3
    cost = bytes_a_view(SMALL, 32, 48)
    assert held < cost < 4 * held


def test_cost_grows_with_size_rows_and_width():
    base = bytes_a_view(ModelConfig(), 96, 128)
    assert bytes_a_view(ModelConfig(), 192, 256) > 4 * base  # matches grow faster than pixels
    more = bytes_a_view(replace(ModelConfig(), whole_rows=58 + 100), 96, 128)
    assert more - base == 4 * 100 * 96 * 128
    assert bytes_a_view(replace(ModelConfig(), width=512), 96, 128) > base
    with_pyramids = PRESETS["da3-base"]
    assert bytes_a_view(with_pyramids, 96, 128) < base  # it says nothing of codes
    assert bytes_a_pass(with_pyramids, 96, 128) == 4 * 4 * 128 * 96 * 128
    # All cells of 4 x 4 pixels against all others, twice.
    assert bytes_a_pass(ModelConfig(), 96, 128) == 2 * 4 * (24 * 32) ** 2


def test_one_pass_while_that_is_wise_then_small_ones_and_never_less_than_two():
    config, size = ModelConfig(), (96, 128)
    plenty = 100 * GIB
    assert views_per_pass(config, (1, *size), plenty) == 1
    assert views_per_pass(config, (memory.MOST_VIEWS, *size), plenty) == memory.MOST_VIEWS
    assert views_per_pass(config, (memory.MOST_VIEWS + 1, *size), plenty) == memory.WINDOW
    room = bytes_a_pass(config, *size) + 3 * bytes_a_view(config, *size)
    for views in (6, 200):
        assert views_per_pass(config, (views, *size), int(room / memory.USABLE)) == 3
    assert views_per_pass(config, (3, *size), int(room / memory.USABLE)) == 3
    assert views_per_pass(config, (200, *size), 0) == memory.LEAST_VIEWS
