"""gsplat on CUDA behind the same signature (optional extra `ffsplat[cuda]`)."""

import torch
from jaxtyping import Float
from torch import Tensor

_MOST_CHANNELS = 513  # gsplat 1.5.3 compiles kernels up to this; beyond it works in chunks


def splat_gsplat(
    means: Float[Tensor, "n 3"],
    quaternions_wxyz: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    features: Float[Tensor, "n c"],
    world_from_camera: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 3 3"],
    width: int,
    height: int,
    low_pass: float,
    near: float,
) -> tuple[Float[Tensor, "v h w c"], Float[Tensor, "v h w"], Float[Tensor, "v h w"]]:
    """Accumulated features, accumulated z-depth and opacity, by `gsplat.rasterization` 1.5.3.

    Depth is the last channel of the same pass. gsplat gives no gradient for the intrinsics.
    """
    from gsplat import rasterization  # pyright: ignore[reportMissingImports]

    images, opacity, _ = rasterization(
        means,
        quaternions_wxyz,
        scales,
        opacities,
        features,
        torch.linalg.inv(world_from_camera),
        intrinsics,
        width,
        height,
        near_plane=near,
        eps2d=low_pass,
        packed=False,
        render_mode="RGB+D",
        channel_chunk=min(features.shape[1] + 1, _MOST_CHANNELS),
    )
    return images[..., :-1], images[..., -1], opacity[..., 0]
