"""gsplat on CUDA behind the same signature (optional extra `ffsplat[cuda]`)."""

from jaxtyping import Float
from torch import Tensor

from ffsplat.geometry import invert_rigid

_MOST_CHANNELS = 513  # gsplat 1.5.3 compiles kernels up to this; beyond it works in chunks


def splat_gsplat(
    means: Float[Tensor, "*b n 3"],
    quaternions_wxyz: Float[Tensor, "*b n 4"],
    scales: Float[Tensor, "*b n 3"],
    opacities: Float[Tensor, "*b n"],
    features: Float[Tensor, "*b n c"],
    world_from_camera: Float[Tensor, "*b v 4 4"],
    intrinsics: Float[Tensor, "*b v 3 3"],
    width: int,
    height: int,
    low_pass: float,
    near: float,
) -> tuple[Float[Tensor, "*b v h w c"], Float[Tensor, "*b v h w"], Float[Tensor, "*b v h w"]]:
    """Accumulated features, accumulated z-depth and opacity, by `gsplat.rasterization` 1.5.3.

    Any number of scenes at once, each with its own v cameras. Depth is the last channel of the same
    pass. gsplat gives no gradient for the intrinsics.
    """
    from gsplat import rasterization  # pyright: ignore[reportMissingImports]

    images, opacity, _ = rasterization(
        means,
        quaternions_wxyz,
        scales,
        opacities,
        features,
        invert_rigid(world_from_camera),
        intrinsics,
        width,
        height,
        near_plane=near,
        eps2d=low_pass,
        packed=False,
        render_mode="RGB+D",
        channel_chunk=min(features.shape[-1] + 1, _MOST_CHANNELS),
    )
    return images[..., :-1], images[..., -1], opacity[..., 0]
