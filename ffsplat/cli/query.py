"""`ffsplat query`: find things in a scene by text, without the photos or the network."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffsplat.cli.app import COMMANDS
from ffsplat.cli.asking import (
    EncoderChoice,
    encoder_options,
    loaded_scene,
    strategy_options,
    with_rows,
)
from ffsplat.cli.console import FILE, Console, common_options, printable
from ffsplat.cli.writing import SceneOutput, format_options
from ffsplat.errors import FFSplatError, UsageError

if TYPE_CHECKING:
    from ffsplat.embeddings import TextEmbedding
    from ffsplat.hits import Hit
    from ffsplat.query import QueryResult
    from ffsplat.text import TextSpace
    from ffsplat.types import Scene

HIT_COLOR = (1.0, 0.25, 0.0)
"""What hits are tinted with; the rest of the scene turns grey."""

TINT = 0.7


def _list_strategies(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Print the table of strategies and their options, and leave."""
    from ffsplat.query.options import describe
    from ffsplat.query.strategies import STRATEGIES

    if not value:
        return
    console: Console = context.find_root().obj
    width = max(map(len, STRATEGIES))
    for name, strategy in STRATEGIES.items():
        console.result(f"{name:{width}}  {strategy.summary} ({strategy.source})")
        if options := describe(strategy.option_type):
            console.result(f"{'':{width}}  {options}")
    context.exit()


@click.command("query", short_help=COMMANDS["query"])
@click.argument("scene", type=FILE)
@click.argument("text", required=False)
@click.option("--strategy", help="How to ask; --strategies lists them.")
@click.option("--strategies", is_flag=True, is_eager=True, expose_value=False,
              callback=_list_strategies, help="List ways to ask, and exit.")  # fmt: skip
@click.option("--option", "-O", "pairs", multiple=True, metavar="NAME=VALUE",
              help="An option of the strategy; may be given again.")  # fmt: skip
@click.option("--labels", help="Tell these apart, such as chair,table,lamp; TEXT is one or none.")
@click.option("--threshold", type=float, help="Score from which a Gaussian matches.")
@click.option("--level", type=click.Choice(["whole", "part", "subpart"]),
              help="Only things, only parts, or only parts of parts.")  # fmt: skip
@encoder_options
@click.option("--embedding", type=FILE, help="Ask with a saved text in place of TEXT.")
@click.option("--save-embedding", type=FILE, help="Also write TEXT as its space embeds it.")
@click.option("--max-hits", type=click.IntRange(min=1), default=20, help="List at most so many.")
@click.option("--codebook", type=FILE, help="The codebook of the scene, if not beside it.")
@click.option("--cameras", type=FILE,
              help="Cameras from `infer --cameras-out`: `refer` looks from the first.")  # fmt: skip
@click.option(
    "-o", "--out", type=FILE, help="Also write a scene, its name says how: hits.ply, .glb ..."
)
@click.option("--out-mode", type=click.Choice(["hit", "colored"]),
              help="... of the hits alone (default), or of all, those coloured.")  # fmt: skip
@format_options(own=("space",), hidden=True)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the hits as JSON.")
@common_options
@click.pass_obj
def command(
    console: Console,
    scene: Path,
    text: str | None,
    labels: str | None,
    embedding: Path | None,
    save_embedding: Path | None,
    codebook: Path | None,
    cameras: Path | None,
    out_mode: str | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """List what matches TEXT in SCENE, best first, such as "red chair" or "table leg"."""
    from ffsplat.query import query

    encoder = EncoderChoice.take(options)
    output = SceneOutput.take_optional(options.pop("out"), options, overwrite)
    if out_mode and not output:
        raise UsageError("--out-mode is about --out, which is missing", "give --out FILE")
    _check(output, save_embedding, overwrite)
    asked = _asked(labels, options)
    question = _question("" if labels and not embedding and text is None else text, embedding)
    console.progress("reading the scene")
    loaded = loaded_scene(scene, codebook, cameras)
    space = encoder.of(loaded) if isinstance(question, str) else encoder.given
    console.progress("embedding the words")
    loaded = with_rows(loaded, space)
    if save_embedding:
        question = _save_embedding(question, space, loaded, save_embedding, overwrite)
    found = query(loaded, question, space=space, **asked)
    label = (question if isinstance(question, str) else question.text) or ", ".join(found.labels)
    for note in found.notes:
        console.note(note)
    if output:
        extract = _extract(loaded, found, label, out_mode)
        output.write(extract)
        output.note(extract, console)
    if as_json:
        console.json(_facts(label, found))
    else:
        _show(console, scene, label, found)


def _check(output: SceneOutput | None, embedding: Path | None, overwrite: bool) -> None:
    """Refuse what cannot be written, before any work."""
    from ffsplat.io import check_output

    if output:
        output.check()
    if embedding:
        check_output(embedding, overwrite)


def _asked(labels: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `query` but the space: the strategy, its options, and what all share."""
    strategy, pairs = options.pop("strategy"), options.pop("pairs")
    if labels is not None:
        strategy, pairs = strategy or "softmax", (*pairs, f"labels={labels}")
    return options | {"strategy": strategy} | strategy_options(strategy, pairs)


def _question(text: str | None, embedding: Path | None) -> "str | TextEmbedding":
    from ffsplat.embeddings import read_embedding

    if embedding and text is None:
        return read_embedding(embedding)
    if text is None or embedding:
        raise UsageError("give either TEXT or --embedding FILE")
    return text


def _save_embedding(
    question: "str | TextEmbedding",
    encoder: "TextSpace | None",
    scene: "Scene",
    path: Path,
    overwrite: bool,
) -> "TextEmbedding":
    """The question in its space, after it was written to a file."""
    from ffsplat.codebook import LEXICON
    from ffsplat.embeddings import embedding_bytes
    from ffsplat.io.atomic import atomic_output
    from ffsplat.query import choose_space
    from ffsplat.text import embed

    if isinstance(question, str):
        space = encoder or choose_space(scene, None)
        if space.name == LEXICON:
            raise UsageError("a lexicon needs no embeddings", "--space open_clip:ARCH/TAG")
        question = embed(question, space)
    with atomic_output(path, overwrite) as file:
        file.write(embedding_bytes(question))
    return question


def _extract(scene: "Scene", found: "QueryResult", text: str, mode: str | None) -> "Scene":
    """The hits alone, or the whole scene in grey with the hits tinted."""
    import numpy as np

    from ffsplat.types import SH_C0, Gaussians

    if not found.hits:
        raise FFSplatError(
            f"nothing matches {text!r}, so there is nothing to write", "lower the --threshold"
        )
    rows = np.sort(np.concatenate([hit.rows for hit in found.hits]))
    if mode != "colored":
        return scene[rows]
    gaussians: Gaussians = scene.gaussians
    grey = gaussians.colors @ np.array([0.299, 0.587, 0.114], np.float32)
    colors = np.repeat(grey[:, None], 3, axis=1)
    colors[rows] = TINT * np.array(HIT_COLOR, np.float32) + (1 - TINT) * colors[rows]
    tinted = replace(gaussians, sh=((colors - 0.5) / np.float32(SH_C0))[:, None])
    return replace(scene, gaussians=tinted)


def _facts(text: str, found: "QueryResult") -> dict[str, Any]:
    return {
        "query": text,
        "strategy": found.strategy,
        "threshold": float(found.threshold),
        "hits": [
            {
                "name": hit.name,
                "instance": hit.instance,
                "score": round(hit.score, 6),
                "count": hit.count,
                "center": hit.center.tolist(),
                "box": {"min": hit.minimum.tolist(), "max": hit.maximum.tolist()},
            }
            for hit in found.hits
        ],
    }


def _show(console: Console, scene: Path, text: str, found: "QueryResult") -> None:
    if not found.hits:
        best = float(found.scores.max(initial=0))
        why = f"best score {best:.2f}, a match from {found.threshold:.2f} on"
        if best >= found.threshold and best > 0:
            why = "single Gaussians do, no object"
        console.note(f"nothing in {scene} matches {text!r} ({why})")
        return
    row = "{:>3}  {:>5}  {:>9}  {:^23}  {:^23}  {}"
    console.result(row.format("#", "score", "Gaussians", "centre", "size", "name"))
    for number, hit in enumerate(found.hits, 1):
        console.result(row.format(*_cells(number, hit)))


def _cells(number: int, hit: "Hit") -> tuple[object, ...]:
    centre, size = (
        " ".join(f"{value:7.2f}" for value in vector)
        for vector in (hit.center, hit.maximum - hit.minimum)
    )
    return number, f"{hit.score:.2f}", hit.count, centre, size, printable(hit.name)
