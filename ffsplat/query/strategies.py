"""The table of strategies: how a text becomes a score a Gaussian."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ffsplat.errors import UsageError
from ffsplat.hits import Match
from ffsplat.query.options import make_options, read_options
from ffsplat.query.question import Question


@dataclass(frozen=True)
class Strategy:
    """One way to answer; `module` has its `Options`, a frozen dataclass, and its `match`.

    The module is imported when it is first asked: a listing costs nothing.
    """

    name: str
    summary: str
    source: str
    module: str

    @property
    def option_type(self) -> type:
        """The dataclass of the options; what each of them means stands there."""
        return self._loaded("Options")

    def options(self, given: Mapping[str, Any]) -> Any:
        """The options with these values, all others as usual; raises as `make_options`."""
        return make_options(self.option_type, f"strategy {self.name}", given)

    def read(self, pairs: Iterable[str]) -> dict[str, Any]:
        """Values for `options` from "name=value" texts; raises UsageError as `read_options`."""
        return read_options(self.option_type, f"strategy {self.name}", pairs)

    def match(self, question: Question, options: Any) -> Match:
        """Scores of all Gaussians, and how the hits among them are named and ranked."""
        return self._loaded("match")(question, options)

    def _loaded(self, name: str) -> Any:
        return getattr(importlib.import_module(f"ffsplat.query.{self.module}"), name)


def strategy_named(name: str) -> Strategy:
    """The strategy of this name; UsageError lists those that exist."""
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {name!r}", f"known are {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


_ALL = (
    Strategy(
        "lexicon",
        "share of a Gaussian's evidence on the rows that the words name",
        "ffsplat: the built-in vocabulary",
        "lexicon",
    ),
    Strategy(
        "cosine",
        "cosine of the text and the coded vector",
        "Radford et al., CLIP, 2021",
        "cosine",
    ),
    Strategy(
        "relevancy",
        "how much nearer the text is than phrases that mean anything",
        "Kerr et al., LERF, 2023; Qin et al., LangSplat, 2024",
        "canonical",
    ),
    Strategy(
        "softmax",
        "the best of a list of labels, and how sure that is",
        "LSM, 2024; SIU3R, 2025; Zhou et al., Feature 3DGS, 2024",
        "labels",
    ),
    Strategy(
        "two-step",
        "the text finds regions, the regions their Gaussians",
        "Semantic Consistent Language Gaussian Splatting, 2025",
        "two_step",
    ),
    Strategy(
        "part-in-whole",
        "a part among what belongs to its whole: the leg of the chair",
        "FMLGS, 2025",
        "parts",
    ),
    Strategy(
        "nested",
        "the most relevant of nested levels of detail",
        "Bhalgat et al., N2F2, 2024",
        "nested",
    ),
    Strategy(
        "hyperplane",
        "a plane in the space of features, fitted to what the text finds first",
        "Qu et al., GOI, 2024",
        "hyperplane",
    ),
    Strategy(
        "refer",
        "one thing by where it lies: the chair left of the table, the lamp nearest the bed",
        "ffsplat: a grammar of spatial relations; the task of ReferSplat, He et al., 2025",
        "refer",
    ),
    Strategy(
        "growing",
        "what is surely meant takes in what looks like the same object",
        "Zhu et al., COS3D, 2025",
        "growing",
    ),
    Strategy(
        "ensemble",
        "what photos say of a Gaussian, joined with what its surroundings say",
        "EmbodiedSplat, 2026",
        "ensemble",
    ),
)

STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
"""Every strategy by its name, in the order of a listing."""
