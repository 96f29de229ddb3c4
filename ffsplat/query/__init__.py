"""Questions to a scene: strategies that score Gaussians against a text, one file each."""

from ffsplat.query.ask import QueryResult, query, usual_strategy
from ffsplat.query.canonical import RELEVANCY_THRESHOLD, TEMPERATURE, relevancy
from ffsplat.query.cosine import COSINE_THRESHOLD
from ffsplat.query.lexicon import LEXICON_THRESHOLD
from ffsplat.query.overview import most_common
from ffsplat.query.question import Question, choose_space, with_space
from ffsplat.query.strategies import STRATEGIES, Strategy, strategy_named

__all__ = [
    "COSINE_THRESHOLD",
    "LEXICON_THRESHOLD",
    "RELEVANCY_THRESHOLD",
    "STRATEGIES",
    "TEMPERATURE",
    "QueryResult",
    "Question",
    "Strategy",
    "choose_space",
    "most_common",
    "query",
    "relevancy",
    "strategy_named",
    "usual_strategy",
    "with_space",
]
