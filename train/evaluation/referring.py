"""How often a referring phrase finds the thing that it means, in rooms with exact truth.

    python -m train.evaluation.referring --count 100

Rooms are scenes without a fault in geometry and labels, so that grammar and relations alone are
measured. A phrase is right if the one thing it means is the only answer; it may also be refused.
With --model, a network sees the photos instead, and a phrase is right if what was found, drawn in
the first photo, overlaps what was meant by a quarter (mAcc@0.25 of COS3D), which needs it in there.
"""

from collections import Counter
from collections.abc import Iterator

import click
import numpy as np
from jaxtyping import Bool, UInt8

from data.rooms import SPLITS, RoomBatch, render_rooms
from data.rooms.scene import build_scenes
from ffsplat.api import load
from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.render import render
from ffsplat.types import Scene
from train.evaluation.exact_scene import exact_scene
from train.evaluation.phrases import Phrase, known_objects, phrases

OVERLAP = 0.25
"""Intersection over union from which an answer counts as right."""


def answer(scene: Scene, phrase: Phrase) -> tuple[str, str]:
    """How it ends, "right", "wrong" or "refused", and what was answered."""
    try:
        found = query(scene, phrase.text, strategy="refer")
    except UsageError as error:
        return "refused", str(error)
    meant = [hit.instance for hit in found.hits]
    return ("right" if meant == [phrase.instance] else "wrong"), f"{meant}"


def drawn_answer(scene: Scene, phrase: Phrase, mask: Bool[np.ndarray, "h w"]) -> tuple[str, str]:
    """The same by the overlap of the answer with a mask of the first photo."""
    try:
        found = query(scene, phrase.text, strategy="refer")
    except UsageError as error:
        return "refused", str(error)
    assert scene.cameras is not None  # the network gave it cameras
    chosen = (found.scores >= found.threshold).astype(np.float32)
    drawn = render(scene, scene.cameras[:1], "score", scores=chosen)[0] >= 0.5
    overlap = (drawn & mask).sum() / max(int((drawn | mask).sum()), 1)
    return ("right" if overlap >= OVERLAP else "wrong"), f"IoU {overlap:.2f}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rooms", "first", type=int, help="First seed.  [default: that of heldout_v2]")
@click.option("--count", default=50, show_default=True, help="How many rooms.")
@click.option("--views", default=6, show_default=True)
@click.option("--size", nargs=2, default=(96, 128), show_default=True, help="Height and width.")
@click.option("--each", default=4, show_default=True, help="Phrases of a kind in a room at most.")
@click.option("--model", help="Scenes that a network makes of the photos, not the truth.")
@click.option("--faults", is_flag=True, help="List every phrase that is not right.")
def main(
    first: int | None, count: int, views: int, size: tuple[int, int], each: int,
    model: str | None, faults: bool,
) -> None:  # fmt: skip
    """Ask for things of held-out rooms by where they lie, and count the right answers."""
    first = SPLITS["heldout_v2"].start if first is None else first
    network = None if model is None else load(model, device="cpu")
    tally: Counter[tuple[str, str]] = Counter()
    for seed in range(first, first + count):
        room = render_rooms([seed], views, *size)
        objects = known_objects(build_scenes([seed])[0], room)
        masks = {one.instance: one.mask for one in objects if one.pictured or network is None}
        scene = exact_scene(room) if network is None else network.infer(_photos(room))
        for phrase in _some([p for p in phrases(objects) if p.instance in masks], each, seed):
            if network is None:
                outcome, said = answer(scene, phrase)
            else:
                outcome, said = drawn_answer(scene, phrase, masks[phrase.instance])
            tally[phrase.kind, outcome] += 1
            if faults and outcome != "right":
                print(f"{seed} {phrase.text!r} means {phrase.instance}: {outcome} {said}")
    _print(tally, f"{count} rooms, {model or 'exact geometry and labels'}")


def _some(every: list[Phrase], each: int, seed: int) -> Iterator[Phrase]:
    """At most so many phrases of each kind, drawn by chance."""
    asked = Counter[str]()
    for i in np.random.default_rng(seed).permutation(len(every)):
        asked[every[i].kind] += 1
        if asked[every[i].kind] <= each:
            yield every[i]


def _photos(room: RoomBatch) -> list[UInt8[np.ndarray, "h w 3"]]:
    return list((room.image[0] * 255).round().byte().numpy())


def _print(tally: Counter[tuple[str, str]], heading: str) -> None:
    print(f"{heading}\n")
    print(f"{'relation':10} {'phrases':>8} {'right':>7} {'wrong':>7} {'refused':>8}")
    kinds = sorted({kind for kind, _ in tally})
    for kind in [*kinds, "all but noun"]:
        some = [k for k in kinds if k != "noun"] if kind == "all but noun" else [kind]
        outcomes = [sum(tally[k, o] for k in some) for o in ("right", "wrong", "refused")]
        total = max(sum(outcomes), 1)
        shares = [f"{100 * outcome / total:.1f} %" for outcome in outcomes]
        print(f"{kind:12} {total:6} {shares[0]:>7} {shares[1]:>7} {shares[2]:>8}")


if __name__ == "__main__":
    main()
