"""What is known of the teachers of a set of shards: `teachers.json` beside their index."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data.shards import ShardError
from ffsplat.errors import OutputError
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import read_limited

FILE = "teachers.json"
FORMAT = "ffsplat.teachers 1"
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Record:
    """One teacher. `space` is what a recipe sets as `model.teacher.space`, `width` likewise.

    `weights` is "random" or the sha256 of their file, `shorter` the pixels that photos had along
    their shorter side, 0 for their own.
    """

    space: str
    width: int
    weights: str
    shorter: int


def read_records(folder: Path) -> dict[str, Record]:
    """Teachers by name; none without the file. Raises ShardError for a file of another form."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(read_limited(path, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{path} is not JSON: {str(error)[:80]}") from error
    match content:
        case {"format": "ffsplat.teachers 1", "teachers": dict(rows)}:
            return {name: _record(path, name, row) for name, row in rows.items()}
    raise ShardError(f"{path} is not of the format {FORMAT}")


def _record(path: Path, name: str, row: object) -> Record:
    match row:
        case {
            "space": str(space), "width": int(width), "weights": str(weights),
            "shorter": int(shorter), **rest,
        } if not rest:  # fmt: skip
            return Record(space, width, weights, shorter)
    raise ShardError(f"{path}: teacher {name!r:.80} has missing, unknown or mistyped entries")


def write_records(folder: Path, records: dict[str, Record], started: bool) -> None:
    """Write the file before any shard; a run that goes on finds it as it was.

    Raises OutputError where shards are `started` and the file says something else: a set would mix
    features of two networks.
    """
    path = folder / FILE
    if started:
        if read_records(folder) != records:
            raise OutputError(f"{folder} was begun with another teacher", "another --out")
        return
    rows = {name: asdict(record) for name, record in records.items()}
    content = json.dumps({"format": FORMAT, "teachers": rows}, indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    with atomic_output(path, overwrite=True) as file:
        file.write(content.encode())
