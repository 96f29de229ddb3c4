"""Referring phrases: "the chair left of the table" is one chair, found by where things lie.

The phrase is parsed (`phrases`), each noun is asked for by another strategy, and relations are
judged between the instances that it finds (`relations`). It is the task of ReferSplat (He et al.,
ICML 2025), which trains a field of each scene for it; this needs no training, and says so when it
does not understand.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ffsplat.errors import UsageError
from ffsplat.hits import Match, hits_of
from ffsplat.query.ask import usual_strategy
from ffsplat.query.phrases import Description, parse
from ffsplat.query.question import Question
from ffsplat.query.relations import HOLDS, ORDERS, ROUGHLY, VIEWED, Thing, distance, thing
from ffsplat.query.strategies import strategy_named
from ffsplat.query.viewpoint import Viewpoint, viewpoint
from ffsplat.types import NO_ID

MOST_THINGS = 64
"""Things that a noun may mean."""


@dataclass(frozen=True)
class Options:
    """`nouns` is the strategy that finds the things of a noun, the usual one unless given.

    `camera`, a name or a number, is where left, right, before and behind are seen from: the first.
    """

    nouns: str = ""
    camera: str = ""


def match(question: Question, options: Options) -> Match:
    """The score of the noun on the Gaussians of what is meant, 0 on all others.

    Raises UsageError for a phrase that is not understood, that means nothing in the scene, or that
    means several things where "the" asks for one, whose instances are listed.
    """
    if not isinstance(question.text, str):
        raise UsageError("a referring phrase is given in words, not as an embedding")
    resolver = _Resolver(question, options, viewpoint(question.scene, options.camera))
    meant = resolver.meant(parse(question.text))
    found = resolver.asked[meant.noun]
    chosen = np.zeros(len(question.scene), bool)
    for one in meant.things:
        chosen[one.rows] = True
    notes = (resolver.view.statement,) if meant.viewed else ()
    return replace(found, scores=np.where(chosen, found.scores, np.float32(0)), notes=notes)


@dataclass(frozen=True, eq=False)
class _Meant:
    """What one reading of a phrase means."""

    noun: str
    things: tuple[Thing, ...]
    viewed: bool


class _Resolver:
    """What the nouns of a phrase mean in a scene, each asked for once."""

    def __init__(self, question: Question, options: Options, view: Viewpoint):
        self.question, self.options, self.view = question, options, view
        self.asked: dict[str, Match] = {}
        self._things: dict[str, tuple[Thing, ...]] = {}

    def meant(self, readings: tuple[Description, ...]) -> _Meant:
        """The one meaning of all readings that mean something."""
        answers, refusals = [], []
        for reading in readings:
            try:
                things = self._one(reading)
            except _Refusal as refusal:
                refusals.append(refusal)
            else:
                answers.append(_Meant(reading.noun, things, _viewed(reading)))
        if not answers:
            raise refusals[0]
        if len({_key(answer.things) for answer in answers}) > 1:
            listed = " or ".join(_list(answer.things) for answer in answers)
            raise UsageError(
                f"{self.question.text!r} can be read in {len(answers)} ways: {listed}",
                'join clauses by "and" to say them of the first thing',
            )
        return answers[0]

    def _one(self, asked: Description) -> tuple[Thing, ...]:
        """The things of a description: one after "the", unless a plural."""
        things = self.resolve(asked)
        if len(things) > 1 and asked.definite and not asked.plural:
            raise _Refusal(
                f"which of {len(things)} things {asked.noun!r}: {_list(things)}?",
                'say which: "largest", "second from the left", "nearest to ..."',
            )
        return things

    def resolve(self, asked: Description) -> tuple[Thing, ...]:
        """All things that a description may mean, best supported first; at least one."""
        things = self.things(asked.noun)
        if not things:
            raise _Refusal(f"the scene has no {asked.noun!r}", "ffsplat info lists what it has")
        for relation in asked.relations:
            every = tuple(self.resolve(anchor) for anchor in relation.anchors)
            left = _related(HOLDS[relation.name], things, every)
            if not left and relation.name in ROUGHLY:
                left = _related(ROUGHLY[relation.name], things, every)
            if not left:
                words = " and ".join(repr(anchor.noun) for anchor in relation.anchors)
                raise _Refusal(
                    f"no {asked.noun!r} (of {len(things)}) is {_WORDS[relation.name]} {words}",
                    self.view.statement if relation.name in VIEWED else None,
                )
            things = left
        return things if asked.rank is None else self._ranked(things, asked)

    def things(self, noun: str) -> tuple[Thing, ...]:
        """The instances that a noun means, best supported first."""
        if noun not in self._things:
            question = replace(self.question, text=noun)
            strategy = strategy_named(self.options.nouns or usual_strategy(question))
            if strategy.name == "refer":
                raise UsageError("the things of a noun are not found by referring")
            found = strategy.match(question, strategy.options({}))
            self.asked[noun] = found
            self._things[noun] = tuple(self._found(found, noun))
        return self._things[noun]

    def _found(self, match: Match, noun: str) -> Iterator[Thing]:
        scene, threshold = self.question.scene, match.threshold
        hits = hits_of(scene, match, noun, threshold, 5, MOST_THINGS)
        objects = [hit for hit in hits if hit.instance != NO_ID] or hits  # the rest are scraps
        for hit in [hit for hit in objects if hit.score >= threshold] or objects:
            rows = hit.rows
            if match.whole and hit.instance != NO_ID and scene.instances is not None:
                rows = np.flatnonzero(scene.instances == hit.instance)
            yield thing(scene, self.view, hit.name, hit.instance, hit.score, rows)

    def _ranked(self, things: tuple[Thing, ...], asked: Description) -> tuple[Thing, ...]:
        """The thing at a place of an order; with several anchors, one for each that differs."""
        rank = asked.rank
        assert rank is not None
        if rank.place > len(things):
            raise _Refusal(f"no number {rank.place} of {asked.noun!r}: there are {len(things)}")
        if rank.anchor is None:
            return (sorted(things, key=ORDERS[rank.name])[rank.place - 1],)
        sign = 1 if rank.name == "nearest" else -1
        best: dict[tuple[int, int], Thing] = {}
        for anchor in self.resolve(rank.anchor):
            others = [t for t in things if _identity(t) != _identity(anchor)]
            others.sort(key=lambda t, anchor=anchor: sign * distance(t, anchor))
            if len(others) >= rank.place:
                winner = others[rank.place - 1]
                best[_identity(winner)] = winner
        if not best:
            raise _Refusal(f"no {asked.noun!r} is {rank.name} to another {rank.anchor.noun!r}")
        return tuple(best.values())


class _Refusal(UsageError):
    """A reading that means nothing in this scene; another reading may."""


_WORDS = {
    "left": "left of", "right": "right of", "front": "in front of", "behind": "behind",
    "above": "above", "below": "below", "on": "on", "in": "in", "near": "near",
    "between": "between",
}  # fmt: skip


def _related(
    holds: Callable[..., bool], things: tuple[Thing, ...], anchors: tuple[tuple[Thing, ...], ...]
) -> tuple[Thing, ...]:
    """The things for which a relation holds to some anchors, none the thing or named twice."""
    return tuple(
        one
        for one in things
        if any(
            holds(one, *some)
            for some in product(*anchors)
            if len({_identity(t) for t in (one, *some)}) == len(some) + 1
        )
    )


def _identity(one: Thing) -> tuple[int, int]:
    """Its instance and, where it has none, its first Gaussian."""
    return one.instance, int(one.rows[0]) if one.instance == NO_ID else 0


def _key(things: tuple[Thing, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(_identity(one) for one in things))


def _list(things: tuple[Thing, ...]) -> str:
    """Every thing with its instance and where it is from the viewpoint."""
    return ", ".join(f"{one.name} {one.instance} ({_where(one)})" for one in things)


def _where(one: Thing) -> str:
    degrees = round(np.degrees(one.bearing))
    side = "right" if degrees > 0 else "left"
    away = float(np.linalg.norm(one.center))
    return f"{abs(degrees)} degrees {side}, {away:.1f} m away"


def _viewed(asked: Description) -> bool:
    """Does the viewpoint matter to a description?"""
    rank = asked.rank
    anchors = [anchor for relation in asked.relations for anchor in relation.anchors]
    if rank is not None:
        if (rank.anchor is None and rank.name in ("nearest", "farthest")) or rank.name in VIEWED:
            return True
        anchors += [rank.anchor] if rank.anchor else []
    related = any(relation.name in VIEWED for relation in asked.relations)
    return related or any(_viewed(anchor) for anchor in anchors)
