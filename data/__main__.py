"""`python -m data`: make, show and check training data."""

from pathlib import Path

import click
import torch

from data.check import check_path, table
from data.convert import Options, summary
from data.convert import convert as write_converted
from data.rooms import SPLITS, load_atlas, render_rooms, write_pool
from data.rooms.checks import reprojection
from data.rooms.clips import room_clips
from data.rooms.examples import write_examples
from data.rooms.render import RoomBatch
from data.rooms.sheet import save_sheet
from data.shards import MAX_COUNT, ShardDataset, verify_shards, write_shards, written_keys
from data.sources.clips import ClipRule
from data.sources.registry import SOURCES, source_of, terms_of
from data.sources.view import Target
from data.teachers import USUAL, check_name, licence_of, open_network, parse_name, teach
from ffsplat.cli.console import printable
from ffsplat.cli.failures import SKIPPED
from ffsplat.errors import FFSplatError

_textures = click.option(
    "--textures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of photo tiles (index.json and atlases).",
)
_folder = click.Path(exists=True, path_type=Path)
_first = click.option("--seed-start", default=0, show_default=True, help="Offset in the split.")


class _Commands(click.Group):
    """Commands whose failures are told in a line, with a hint in another."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except FFSplatError as error:
            hint = f"\nhint: {error.hint}" if error.hint else ""
            click.echo(f"Error: {error}{hint}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Training data: procedural rooms, published data sets, and shards of clips."""


@main.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--scenes", default=250, show_default=True, help="Number of rooms.")
@click.option("--views", default=4, show_default=True, help="Views of a room.")
@click.option("--size", default=64, show_default=True, help="Pixels along a side.")
@click.option("--split", default="train", show_default=True, type=click.Choice(list(SPLITS)))
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch", default=1, show_default=True, help="Rooms rendered at once.")
@_first
@_textures
def pool(
    out: Path,
    scenes: int,
    views: int,
    size: int,
    split: str,
    device: str,
    batch: int,
    seed_start: int,
    textures: Path | None,
) -> None:
    """Render rooms to chunks of safetensors."""
    atlas = load_atlas(textures).to(device) if textures else None
    try:
        paths = write_pool(
            out, split, seed_start, scenes, views, (size, size), atlas, device, batch
        )
        for path in paths:
            click.echo(path)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--scenes", default=250, show_default=True, help="Number of rooms.")
@click.option("--views", default=4, show_default=True, type=click.IntRange(1))
@click.option("--size", default=64, show_default=True, type=click.IntRange(8))
@click.option("--split", default="train", show_default=True, type=click.Choice(list(SPLITS)))
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1))
@click.option("--shard", default=MAX_COUNT, show_default=True, help="Rooms in a shard.")
@_first
@_textures
def rooms(
    out: Path,
    scenes: int,
    views: int,
    size: int,
    split: str,
    device: str,
    batch: int,
    shard: int,
    seed_start: int,
    textures: Path | None,
) -> None:
    """Render rooms to shards; an interrupted run goes on where it stopped."""
    atlas = load_atlas(textures).to(device) if textures else None
    stored = written_keys(out, "rooms")
    clips = room_clips(split, seed_start, scenes, views, size, atlas, device, batch, stored)
    try:
        index = write_shards(clips, out, "rooms", max_count=shard)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    for file in index.shards:
        click.echo(f"{out / file.name}  {len(file)} clips, {file.size / 1e6:.1f} MB")


@main.command()
@click.argument("shards")
def verify(shards: str) -> None:
    """Read all of SHARDS, a folder or address: sums, members and every clip."""
    damaged = 0
    for verdict in verify_shards(shards):
        state = f"ok  {verdict.clips} clips" if verdict.fault is None else f"bad  {verdict.fault}"
        click.echo(f"{verdict.shard}  {state}")
        damaged += verdict.fault is not None
    if damaged:
        raise click.ClickException(f"{damaged} shards are damaged")


@main.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--scenes", default=8, show_default=True)
@click.option("--views", default=1, show_default=True)
@click.option("--size", default=128, show_default=True)
@click.option("--scale", default=1, show_default=True, help="Enlarge pixels.")
@_first
@_textures
def sheet(
    out: Path,
    scenes: int,
    views: int,
    size: int,
    scale: int,
    seed_start: int,
    textures: Path | None,
) -> None:
    """Draw rooms as rows of colour, depth, normals, whole, part, instance."""
    atlas = load_atlas(textures) if textures else None
    seeds = range(seed_start, seed_start + scenes)
    rooms = [render_rooms([seed], max(views, 2), size, size, atlas) for seed in seeds]
    save_sheet(RoomBatch.concatenate(rooms), out, views, scale)


@main.command()
@click.argument("name", metavar="SOURCE", type=click.Choice(list(SOURCES)))
@click.argument("folder", type=_folder)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--size", default=256, show_default=True, type=click.IntRange(8), help="Longer side.")
@click.option("--multiple", default=8, show_default=True, help="Sides are multiples of this.")
@click.option("--square", is_flag=True, help="Cut the square in the middle out of every photo.")
@click.option("--views", default=4, show_default=True, type=click.IntRange(1), help="Of a clip.")
@click.option("--min-overlap", default=0.3, show_default=True, help="With another view.")
@click.option("--max-overlap", default=0.9, show_default=True, help="With any other view.")
@click.option("--stride", default=1, show_default=True, help="Use every n-th frame.")
@click.option("--seed", default=0, show_default=True, help="Of the choice of views.")
@click.option("--limit", type=click.IntRange(1), help="Clips at most.")
@click.pass_context
def convert(
    ctx: click.Context,
    name: str,
    folder: Path,
    out: Path,
    size: int,
    multiple: int,
    square: bool,
    views: int,
    min_overlap: float,
    max_overlap: float,
    stride: int,
    seed: int,
    limit: int | None,
) -> None:
    """Cut the scenes of SOURCE below FOLDER into clips and write them to shards.

    What cannot be read is named and skipped; the exit code is 3 then.
    """
    source = source_of(name)
    click.echo(terms_of(source))
    rule = ClipRule(views, min_overlap, max_overlap, stride, seed)
    options = Options(Target(size, multiple, square), rule, limit)
    report = write_converted(source, folder, out, options)
    for line in summary(report):
        click.echo(printable(line))
    ctx.exit(SKIPPED if report.failed else 0)


@main.command()
@click.argument("path", required=False)
@click.option("--source", help="What PATH holds, if it is no set of shards.")
@click.option("--limit", default=50, show_default=True, help="Scenes or clips at most.")
@click.option("--scenes", default=40, show_default=True, help="Rooms, without PATH.")
@click.option("--size", default=128, show_default=True, help="Of rooms, without PATH.")
@_first
@click.pass_context
def check(
    ctx: click.Context,
    path: str | None,
    source: str | None,
    limit: int,
    scenes: int,
    size: int,
    seed_start: int,
) -> None:
    """Reproject views into each other and say how well depth, labels and poses agree.

    PATH is a set of shards or a published data set; without it rooms are made and checked.
    """
    if path is not None:
        failed = []
        for line in table(check_path(path, source, limit, failed)):
            click.echo(printable(line))
        for reason in failed:
            click.echo(printable(f"skipped: {reason}"))
        ctx.exit(SKIPPED if failed else 0)
    seeds = range(seed_start, seed_start + scenes)
    batch = RoomBatch.concatenate([render_rooms([seed], 4, size, size) for seed in seeds])
    for name, value in vars(reprojection(batch)).items():
        click.echo(f"{name:14s} {value:.5f}")


@main.command(name="teach")
@click.argument("shards")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--teacher", required=True, help="open_clip:ARCH/TAG or timm:NETWORK.")
@click.option(
    "--weights", default="hub", show_default=True, help="Or a safetensors file, or random."
)
@click.option("--name", help="What clips call it: clip or dino unless told otherwise.")
@click.option("--size", type=click.IntRange(8, 2048), help="Shorter side that the network sees.")
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
def teach_command(
    shards: str,
    out: Path,
    teacher: str,
    weights: str,
    name: str | None,
    size: int | None,
    device: str,
) -> None:
    """Add dense features of another network to the clips of SHARDS, in new shards."""
    network_name = parse_name(teacher)
    click.echo(licence_of(network_name))
    name = name or USUAL[network_name.kind]
    dataset = ShardDataset(shards)
    check_name(name, dataset)
    source = weights if weights in ("hub", "random") else Path(weights)
    network, record = open_network(network_name, source, size, device)
    index = teach(dataset, out, name, network, record)
    click.echo(f"{out}: {len(index)} clips in {len(index.shards)} shards; in a recipe:")
    click.echo(f'teacher: {{name: {name}, width: {record.width}, space: "{record.space}"}}')


@main.command()
@click.option("--out", default="data/examples", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=26, show_default=True, help="Offset in the split `preview`.")
@click.option("--size", default=192, show_default=True, help="Height in pixels, 4:3.")
def examples(out: Path, seed: int, size: int) -> None:
    """Write the example photos of the repository: six views of one room and their truth."""
    write_examples(out, seed, size)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
