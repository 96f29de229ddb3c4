"""The page itself: scripts, style, Gaussians and answers in one file of HTML."""

import base64
import gzip
import html
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ffsplat.errors import UnknownWord, UsageError
from ffsplat.formats.packing import writable
from ffsplat.io.atomic import atomic_output
from ffsplat.page.snapshot import snapshot_of
from ffsplat.query import QueryResult, most_common, query
from ffsplat.query.options import texts_of
from ffsplat.stream.protocol.document import write_document
from ffsplat.types import Scene

MAX_QUERIES = 64
USUAL = 8
"""Questions that are prepared if none are given: the most common things."""

SHARED = (
    "camera", "controls", "document", "geometry", "gl", "lines", "questions", "replica", "runs",
    "shaders", "splats", "view", "wire",
)  # fmt: skip
"""Scripts of the page of a stream that draw this one, too."""

_WORKER = 'new URL("./sort.js", import.meta.url)'


def write(scene: Scene, path: str | Path, *, queries: str = "", overwrite: bool = False) -> None:
    """Write a scene as one page that needs neither a server nor a network.

    `queries` are texts whose answers are in the page (see `texts_of`); by default the scene's most
    common things. Colours do not change with the direction. Raises as `query` and `atomic_output`,
    and OutputError for more Gaussians than a page has room for.
    """
    writable(scene)
    texts = texts_of(queries)
    if len(texts) > MAX_QUERIES:
        raise UsageError(
            f"{len(texts)} queries, a page has at most {MAX_QUERIES}", "write several pages"
        )
    answers = [answer(text, query(scene, text)) for text in texts] or _usual(scene)
    content = page(scene, Path(path).stem, answers).encode()
    with atomic_output(path, overwrite, len(content)) as file:
        file.write(content)


def page(scene: Scene, title: str, answers: Sequence[dict[str, Any]]) -> str:
    """The whole text of the page."""
    document = gzip.compress(write_document(snapshot_of(scene)), 6, mtime=0)
    parts = {
        "title": html.escape(title),
        "style": _stream("style.css") + _own("still.css"),
        "modules": _inline({"imports": _modules()}),
        "answers": _inline(list(answers)),
        "scene": base64.b64encode(document).decode(),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _own("still.html"))


def answer(text: str, found: QueryResult) -> dict[str, Any]:
    """What the page shows of a query: its hits, and which Gaussians they are, packed as bits."""
    marked = np.zeros(len(found.scores), bool)
    hits = []
    for hit in found.hits:
        marked[hit.rows] = True
        box = {key: getattr(hit, key).tolist() for key in ("center", "minimum", "maximum")}
        hits.append({"name": hit.name, "score": round(hit.score, 4), "count": hit.count, **box})
    bits = np.packbits(marked, bitorder="little").tobytes()
    return {
        "text": text,
        "hits": hits,
        "marks": base64.b64encode(gzip.compress(bits, 6, mtime=0)).decode(),
    }


def _usual(scene: Scene) -> list[dict[str, Any]]:
    """Answers for the most common things that texts can ask for: a label may be any word."""
    if scene.codes is None or scene.codebook is None:
        return []
    answers = []
    for name in filter(None, (name for name, _ in most_common(scene, USUAL))):
        with suppress(UnknownWord):
            answers.append(answer(name, query(scene, name)))
    return answers


def _modules() -> dict[str, str]:
    """Every script as a data: address under a name that the others import it by."""
    worker = json.dumps(_address(_stream("sort.js")))
    scripts = {name: _stream(f"{name}.js") for name in SHARED} | {"still": _own("still.js")}
    return {
        f"ffsplat/{name}.js": _address(
            re.sub(r'from "\./(\w+\.js)"', r'from "ffsplat/\1"', text).replace(_WORKER, worker)
        )
        for name, text in scripts.items()
    }


def _address(script: str) -> str:
    return "data:text/javascript;base64," + base64.b64encode(script.encode()).decode()


def _inline(data: object) -> str:
    """JSON that may stand in a script element: nothing in it ends the element."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def _stream(name: str) -> str:
    return files("ffsplat.stream.server").joinpath("page", name).read_text("utf-8")


def _own(name: str) -> str:
    return files("ffsplat.page").joinpath(name).read_text("utf-8")
