"""View-dependent colour: real spherical harmonics up to degree 3, as 3DGS files store them."""

import numpy as np
from jaxtyping import Float

_C1 = np.sqrt(3 / (4 * np.pi))
_C2 = np.sqrt(15 / (4 * np.pi)) * np.array([1, -1, 1 / np.sqrt(12), -1, 0.5])
_C3 = np.sqrt(7 / np.pi) * np.array(
    [
        -np.sqrt(5 / 32),
        np.sqrt(15 / 4),
        -np.sqrt(3 / 32),
        1 / 4,
        -np.sqrt(3 / 32),
        np.sqrt(15 / 16),
        -np.sqrt(5 / 32),
    ]
)


def sh_basis(directions: Float[np.ndarray, "n 3"], degree: int) -> Float[np.ndarray, "n k"]:
    """The (degree + 1)^2 basis functions at unit directions, degree <= 3.

    Orthonormal real harmonics in the order m = -l .. l with the Condon-Shortley phase (-1)^m,
    which is the sign convention of 3DGS (Kerbl et al. 2023; Sloan, Efficient Spherical Harmonic
    Evaluation, JCGT 2013).
    """
    x, y, z = directions.T
    columns = [np.full_like(x, 1 / np.sqrt(4 * np.pi))]
    if degree > 0:
        columns += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree > 1:
        bands = [x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]
        columns += [c * band for c, band in zip(_C2, bands, strict=True)]
    if degree > 2:
        ring = 5 * z * z - 1
        bands = [
            y * (3 * x * x - y * y),
            x * y * z,
            y * ring,
            z * (5 * z * z - 3),
            x * ring,
            z * (x * x - y * y),
            x * (x * x - 3 * y * y),
        ]
        columns += [c * band for c, band in zip(_C3, bands, strict=True)]
    return np.stack(columns, axis=-1).astype(directions.dtype)


def sh_colors(
    sh: Float[np.ndarray, "n k 3"], directions: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Colour (sRGB) seen along `directions` (camera to Gaussian, any length), at least 0.

    Coefficients beyond degree 3 are ignored.
    """
    degree = min(int(np.sqrt(sh.shape[1])) - 1, 3)
    lengths = np.linalg.norm(directions, axis=-1, keepdims=True)
    basis = sh_basis(directions / np.maximum(lengths, 1e-12), degree)
    return np.maximum(0.5 + np.einsum("nk,nkc->nc", basis, sh[:, : basis.shape[1]]), 0)
