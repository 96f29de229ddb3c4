"""What belongs together, for scenes that do not say it: clusters, super-Gaussians, mask groups."""

from ffsplat.grouping.cluster import Clustering, group_instances
from ffsplat.grouping.masks import group_by_masks
from ffsplat.grouping.super_gaussians import SuperGaussians, super_gaussians

__all__ = [
    "Clustering",
    "SuperGaussians",
    "group_by_masks",
    "group_instances",
    "super_gaussians",
]
