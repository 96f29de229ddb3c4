"""Hand-made predictions and views: what a network would say, without a network."""

import numpy as np
import torch
import torch.nn.functional as F

from ffsplat.geometry import intrinsics_from_focal, rigid, rotation_from_vector
from ffsplat.prediction import Prediction
from ffsplat.types import Views, ViewSource


def fake_prediction(b=1, v=2, h=6, w=8, whole=5, part=4, seed=0, **changes) -> Prediction:
    """Smooth depth around 2 with random everything else; `changes` replaces fields."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    moving = (torch.arange(v) > 0)[None, :, None]
    rotation = rotation_from_vector(0.3 * normal(b, v, 3) * moving)
    fields = {
        "depth": 2 + 0.02 * normal(b, v, h, w),
        "depth_error": 0.05 * torch.ones(b, v, h, w),
        "scale": torch.full((b,), 2.0),
        "world_from_camera": rigid(rotation, 0.2 * normal(b, v, 3) * moving),
        "intrinsics": intrinsics_from_focal(torch.full((b, v), 0.9 * max(h, w)), h, w),
        "offsets": normal(b, v, h, w, 2).clamp(-0.5, 0.5),
        "scales": 0.1 * normal(b, v, h, w, 3).exp(),
        "quaternions_wxyz": F.normalize(normal(b, v, h, w, 4), dim=-1),
        "opacities": torch.sigmoid(normal(b, v, h, w)),
        "colors": torch.rand(b, v, h, w, 3, generator=generator),
        "whole_logits": 2 * normal(b, v, h, w, whole),
        "part_logits": 2 * normal(b, v, h, w, part),
        "instances": F.normalize(normal(b, v, h, w, 4), dim=-1),
        "descriptors": F.normalize(normal(b, v, h // 2, w // 2, 3), dim=-1),
        "token_descriptors": F.normalize(normal(b, v, 1, 1, 3), dim=-1),
    }
    return Prediction(**(fields | changes))


def fake_views(v=2, h=6, w=8, zoom=10.0, **changes) -> Views:
    """Views of grey photos that were `zoom` times larger; all pixels valid."""
    original_from_view = np.diag([zoom, zoom, 1.0])
    fields = {
        "pixels": np.full((v, h, w, 3), 0.5, np.float32),
        "valid": np.ones((v, h, w), bool),
        "intrinsics": np.full((v, 3, 3), np.nan, np.float32),
        "sources": tuple(
            ViewSource(f"{i}.jpg", int(w * zoom), int(h * zoom), original_from_view)
            for i in range(v)
        ),
    }
    return Views(**(fields | changes))
