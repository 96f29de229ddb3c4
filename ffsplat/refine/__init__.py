"""Camera poses made exact by the network's own matches and depth."""

from ffsplat.refine.solve import refine_cameras

__all__ = ["refine_cameras"]
