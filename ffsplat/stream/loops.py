"""Whether two views see one place: what a network says of their cameras, proven by colours."""

from dataclasses import dataclass

from ffsplat.stream.alike import compare
from ffsplat.stream.places import PlaceMemory, global_descriptor
from ffsplat.stream.sight import PosedViews

__all__ = ["LoopEvidence", "PlaceMemory", "confirm_loop", "global_descriptor"]

OVERLAP = 0.3
"""Share of either view that must be seen by the other."""
AGREEMENT = 0.7
"""Share of what falls into the other view that must lie at the depth that is seen there."""
LIKENESS = 0.6
"""Correlation of grey values around the points of one view with where the other sees them."""


@dataclass(frozen=True)
class LoopEvidence:
    """What two views of one prediction say of each other; the least of both directions.

    `overlap` is the share of a view's pixels whose points the other sees at the same depth,
    `agreement` their share of those that fall inside, `likeness` the correlation of grey values
    there, in [-1, 1]. `ok` says that all are enough for a loop.
    """

    overlap: float
    agreement: float
    likeness: float

    @property
    def ok(self) -> bool:
        """Whether the two views show one place, with their cameras about where they are said."""
        return self.overlap >= OVERLAP and self.agreement >= AGREEMENT and self.likeness >= LIKENESS


def confirm_loop(views: PosedViews, view_old: int, view_new: int) -> LoopEvidence:
    """Whether two views of one prediction see the same place.

    A network gives any two pictures some pose; what they look like must confirm it (`alike`), in
    both directions. Views that show next to nothing have a likeness of 0.

    Measured with ffsplat-tiny on pairs of views, 700 of 4 procedural rooms and 446 of a real
    office: of 500 that see nothing in common none was let in, and none of 149 whose pose was off by
    more than 15 degrees or a third of the depth; of those within 8 degrees and a fifth 79 % in
    rooms and 60 % in the office. Likeness alone would let in two of the 500, by a few per cent of
    the view.
    """
    pairs = [(view_old, view_new), (view_new, view_old)]
    found = [compare(views, source, [target])[0] for source, target in pairs]
    return LoopEvidence(
        overlap=min(one.agreeing / max(1, one.usable) for one in found),
        agreement=min(one.agreeing / max(1, one.inside) for one in found),
        likeness=min(one.likeness for one in found),
    )
