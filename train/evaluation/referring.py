"""How often a referring phrase finds the thing that it means, in rooms with exact truth.

    python -m train.evaluation.referring --count 100

Rooms are scenes without a fault in geometry and labels, so that grammar and relations alone are
measured. A phrase is right if the one thing it means is the only answer; it may also be refused.
"""

from collections import Counter

import click
import numpy as np

from data.rooms import SPLITS, render_rooms
from data.rooms.scene import build_scenes
from ffsplat.errors import UsageError
from ffsplat.query import query
from ffsplat.types import Scene
from train.evaluation.exact_scene import exact_scene
from train.evaluation.phrases import Phrase, known_objects, phrases


def answer(scene: Scene, phrase: Phrase) -> tuple[str, str]:
    """How it ends, "right", "wrong" or "refused", and what was answered."""
    try:
        found = query(scene, phrase.text, strategy="refer")
    except UsageError as error:
        return "refused", str(error)
    meant = [hit.instance for hit in found.hits]
    return ("right" if meant == [phrase.instance] else "wrong"), f"{meant}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rooms", "first", type=int, help="First seed.  [default: that of heldout_v2]")
@click.option("--count", default=50, show_default=True, help="How many rooms.")
@click.option("--views", default=6, show_default=True)
@click.option("--size", nargs=2, default=(96, 128), show_default=True, help="Height and width.")
@click.option("--each", default=4, show_default=True, help="Phrases of a kind in a room at most.")
@click.option("--faults", is_flag=True, help="List every phrase that is not right.")
def main(
    first: int | None, count: int, views: int, size: tuple[int, int], each: int, faults: bool
) -> None:
    """Ask for things of held-out rooms by where they lie, and count the right answers."""
    first = SPLITS["heldout_v2"].start if first is None else first
    tally: Counter[tuple[str, str]] = Counter()
    for seed in range(first, first + count):
        room = render_rooms([seed], views, *size)
        scenes, _ = build_scenes([seed])
        scene, asked = exact_scene(room), Counter[str]()
        every = list(phrases(known_objects(scenes, room)))
        for i in np.random.default_rng(seed).permutation(len(every)):
            phrase = every[i]
            if asked[phrase.kind] < each:
                asked[phrase.kind] += 1
                outcome, said = answer(scene, phrase)
                tally[phrase.kind, outcome] += 1
                if faults and outcome != "right":
                    print(f"{seed} {phrase.text!r} means {phrase.instance}: {outcome} {said}")
    _print(tally, count)


def _print(tally: Counter[tuple[str, str]], count: int) -> None:
    print(f"{count} rooms, exact geometry and labels\n")
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
