"""What matches a query: Gaussians grouped into instances, ranked by score and support."""

from ffsplat.hits.match import Hit, Match, hits_of, slots_of

__all__ = ["Hit", "Match", "hits_of", "slots_of"]
