"""What gsply reads, as .npz beside the target; for `write`, the target as SPZ too.

usage: python read_gsply.py read|write SOURCE TARGET
"""

import sys
from pathlib import Path

import gsply
import numpy as np


def main(action: str, source: str, target: str) -> None:
    """Read, write if asked, keep what was read."""
    data = gsply.read_spz(source) if source.endswith(".spz") else gsply.plyread(source)
    if action == "write":
        gsply.write_spz(target, data)
    parts = {key: getattr(data, key) for key in ("means", "scales", "quats", "opacities", "sh0")}
    np.savez(Path(target).with_suffix(".npz"), shN=data.shN, **parts)


if __name__ == "__main__":
    main(*sys.argv[1:])
