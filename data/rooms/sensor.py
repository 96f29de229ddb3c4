"""The camera's own effects on linear colour: exposure, white balance, tone, blur, noise."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

KERNEL = 5
"""Pixels along the side of a blur kernel."""


def _blur_kernel(rng: np.random.Generator) -> np.ndarray:
    """Slight defocus, or motion along a line of up to three pixels."""
    y, x = np.mgrid[-2:3, -2:3].astype(float)
    if rng.random() < 0.25:
        angle, length = rng.uniform(0, np.pi), rng.uniform(0.5, 1.5)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        kernel = np.exp(-((along / length) ** 4) - (across / 0.45) ** 2)
    else:
        kernel = np.exp(-(x**2 + y**2) / (2 * rng.uniform(0.05, 0.65) ** 2))
    return kernel / kernel.sum()


def _noise(shape: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Normal noise by seed; one device draws other numbers than another."""
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def encode(linear: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """A soft shoulder above 0.8, then the sRGB curve (IEC 61966-2-1); any input lands in [0, 1]."""
    soft = torch.where(linear > 0.8, 1 - 0.2 * torch.exp(-(linear - 0.8) / 0.2), linear)
    curve = 1.055 * soft.clamp(min=1e-6) ** (1 / 2.4) - 0.055
    return torch.where(soft <= 0.0031308, 12.92 * soft, curve)


def develop(linear: Float[Tensor, "b v h w 3"], seeds: list[int]) -> Float[Tensor, "b v h w 3"]:
    """Picture in [0, 1] (sRGB) of linear radiance; one exposure and white balance a room."""
    rngs = [np.random.default_rng([seed, 2]) for seed in seeds]
    b, v, h, w, _ = linear.shape
    level = np.array([rng.uniform(0.14, 0.4) for rng in rngs])
    wander = np.stack([rng.uniform(0.92, 1.08, v) for rng in rngs])
    balance = np.stack([rng.uniform(0.9, 1.1, 3) for rng in rngs])
    gain = torch.from_numpy(level[:, None, None] * wander[..., None] * balance[:, None]).to(linear)
    mean = linear.clamp(max=2).flatten(1).mean(1).clamp(min=1e-3)
    exposed = linear * (gain / mean[:, None, None])[:, :, None, None]
    encoded = encode(exposed)
    kernels = np.stack([_blur_kernel(rng) for rng in rngs for _ in range(v)])
    kernel = torch.from_numpy(kernels).to(linear).repeat_interleave(3, 0)[:, None]
    planes = encoded.permute(0, 1, 4, 2, 3).reshape(1, -1, h, w)
    planes = F.conv2d(F.pad(planes, [KERNEL // 2] * 4, mode="replicate"), kernel, groups=b * v * 3)
    image = planes.reshape(b, v, 3, h, w).permute(0, 1, 3, 4, 2)
    noise = torch.stack([_noise((v, h, w, 3), seed, linear.device) for seed in seeds])
    strength = torch.tensor([rng.uniform(0.002, 0.022) for rng in rngs]).to(linear)
    grain = noise * strength[:, None, None, None, None]
    return (image + grain * (0.5 + image.clamp(0, 1).sqrt())).clamp(0, 1)
