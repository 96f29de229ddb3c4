"""What moves submaps to where the graph has them: a fit of some steps a frame, done beside."""

from collections.abc import Callable
from concurrent.futures import Future

from ffsplat.stream.beside import Beside
from ffsplat.stream.graph.graph import GraphFit

STEPS, MOST_STEPS = 10, 30
"""Steps of the graph's fit that a frame takes, and all that it may take in the end.

Most fits take seven. By three a frame, corrections came two frames later: on a walk of 197 frames
through a room with ffsplat-tiny the way was then off by 0.25 m instead of 0.22 m.
"""


class Correction:
    """A fit on its way; the thread beside does ahead what the next frame will take.

    All that is seen of it is as if `advance` did its steps itself.
    """

    def __init__(
        self,
        begin: Callable[[], GraphFit],
        beside: Beside,
        steps: int = 0,
        stride: int = STEPS,
    ):
        """A fit that `begin` makes beside, and that has taken `steps`, by `stride` a frame.

        With fewer than none the first frame takes no steps: a large graph has two frames' time for
        those of the second.
        """
        self.steps, self.stride = steps, stride
        self._beside = beside
        self._fit = beside.submit(begin)
        self._next = self._ahead()

    @property
    def fit(self) -> GraphFit:
        """The fit after the steps that were taken."""
        return self._fit.result()

    def advance(self) -> bool:
        """Take the steps of a frame; whether they were the last."""
        if self.steps < 0:
            self.steps = 0
            return False
        self._fit, self.steps = self._next, min(self.steps + self.stride, MOST_STEPS)
        if self.fit.done or self.steps == MOST_STEPS:
            return True
        self._next = self._ahead()
        return False

    def _ahead(self) -> Future[GraphFit]:
        """The fit after the next steps, which begin when it is there."""
        fit, steps = self._fit, min(self.stride, MOST_STEPS - max(0, self.steps))
        return self._beside.submit(lambda: fit.result().after(steps))
