"""What a safetensors file says of itself, read within limits; and pickles, refused by their name.

Opening a pickle can run any code. Only `foreign` reads one, after checks of its own.
"""

import json
from pathlib import Path
from typing import Any

from ffsplat.errors import CheckpointError

MAX_HEADER = 1 << 20
PICKLES = ("*.pt", "*.pth", "*.ckpt", "*.bin", "*.pkl")
DTYPES = ("F16", "BF16", "F32")

Header = dict[str, dict[str, Any]]
"""Type ("dtype") and "shape" of each tensor of a file."""


def refuse_pickle(path: Path) -> None:
    """Raise CheckpointError if the name is that of a pickle."""
    if any(path.match(pattern) for pattern in PICKLES):
        raise CheckpointError(
            f"{path} is a pickle, which can run any code; it is not opened",
            "make model.safetensors of it: ffsplat convert-weights FILE --out FOLDER",
        )


def read_header(path: Path) -> Header:
    """What a safetensors file says it holds, without its data; raises CheckpointError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise CheckpointError(f"{path} is not a safetensors file: its header is broken")
        content = file.read(length)
    try:
        header = json.loads(content, object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        return {
            name: {"dtype": e["dtype"], "shape": list(e["shape"])} for name, e in header.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} has a broken header: {shown(error)}") from error


def listing(names: list[str]) -> str:
    """A few names, printable whatever a hostile file calls its tensors."""
    more = f", and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


def shown(text: object) -> str:
    """At most 80 characters of foreign text, those that do not print escaped."""
    return ascii(str(text)[:80])[1:-1]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)
