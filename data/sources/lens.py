"""Lens distortion: where the pixel of an ideal pinhole lies in the photo that was taken."""

import cv2
import numpy as np
from jaxtyping import Float64

COEFFICIENTS = 5


def distort(
    normalised: Float64[np.ndarray, "*n 2"], coefficients: tuple[float, ...]
) -> Float64[np.ndarray, "*n 2"]:
    """Move ideal image points (x / z, y / z) to where the lens puts them.

    `coefficients` is k1, k2, p1, p2, k3 in OpenCV's order, absent ones 0.
    Source: Brown, "Decentering distortion of lenses", 1966, as OpenCV's calib3d writes it.
    """
    k1, k2, p1, p2, k3 = _all(coefficients)
    x, y = normalised[..., 0], normalised[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def ideal_intrinsics(
    intrinsics: Float64[np.ndarray, "3 3"], coefficients: tuple[float, ...], size: tuple[int, int]
) -> Float64[np.ndarray, "3 3"]:
    """Intrinsics of a pinhole camera that sees only what the photo shows: no black borders.

    Pixels have their centres at half-integers; `size` is (width, height).
    """
    if not any(coefficients):
        return intrinsics
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    lens = np.array(_all(coefficients))
    zoomed, _ = cv2.getOptimalNewCameraMatrix(intrinsics - half, lens, size, 0, size)
    return np.asarray(zoomed, dtype=np.float64) + half


def stored_pixels(
    pixels: Float64[np.ndarray, "*n 2"],
    ideal: Float64[np.ndarray, "3 3"],
    intrinsics: Float64[np.ndarray, "3 3"],
    coefficients: tuple[float, ...],
) -> Float64[np.ndarray, "*n 2"]:
    """Where pixels of the pinhole camera `ideal` lie in a photo taken with `intrinsics`."""
    rays = (pixels - ideal[:2, 2]) @ np.linalg.inv(ideal[:2, :2]).T
    return distort(rays, coefficients) @ intrinsics[:2, :2].T + intrinsics[:2, 2]


def _all(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    return (*coefficients, *(0.0,) * (COEFFICIENTS - len(coefficients)))
