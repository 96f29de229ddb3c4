"""What the files of other systems share: columns, Gaussians, features, and how they compare."""

from dataclasses import replace

import numpy as np
import torch
from plyfile import PlyData, PlyElement

from ffsplat import codes
from tests.io.scenes import random_gaussians

COUNT = 60
RANDOM = np.random.default_rng(11)


def base_columns(gaussians, degree=3):
    """The columns of the reference 3DGS up to the rotation, as every one of these has them."""
    n, rest = len(gaussians), (degree + 1) ** 2 - 1
    detail = gaussians.sh[:, 1:].transpose(0, 2, 1).reshape(n, 3 * rest)
    opacity = np.log(gaussians.opacities / (1 - gaussians.opacities))
    named = {"x": gaussians.means[:, 0], "y": gaussians.means[:, 1], "z": gaussians.means[:, 2]}
    named |= {name: np.zeros(n) for name in ("nx", "ny", "nz")}
    named |= {f"f_dc_{i}": gaussians.sh[:, 0, i] for i in range(3)}
    named |= {f"f_rest_{i}": detail[:, i] for i in range(3 * rest)}
    named |= {"opacity": opacity}
    named |= {f"scale_{i}": np.log(gaussians.scales[:, i]) for i in range(3)}
    return named | {f"rot_{i}": gaussians.quaternions_wxyz[:, i] for i in range(4)}


def save(path, named, integers=()):
    """As plyfile writes it for all of them: one element, float columns unless told."""
    kinds = [(name, "i4" if name in integers else "f4") for name in named]
    rows = np.empty(len(next(iter(named.values()))), kinds)
    for name, values in named.items():
        rows[name] = values
    PlyData([PlyElement.describe(rows, "vertex")]).write(path)
    return path


def foreign_gaussians():
    """Gaussians that survive the logit of their opacity."""
    made = random_gaussians(COUNT, sh=16, seed=3)
    return replace(made, opacities=made.opacities.clip(0.01, 0.99))


def assert_same_shapes(scene, gaussians):
    for name in ("means", "scales", "opacities", "sh"):
        ours, theirs = getattr(scene.gaussians, name), getattr(gaussians, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)
    turn = np.abs((scene.gaussians.quaternions_wxyz * gaussians.quaternions_wxyz).sum(1))
    np.testing.assert_allclose(turn, 1, atol=1e-6)


def decoded(scene):
    """The unit feature that a scene's codes stand for, in its codebook's first space."""
    rows = next(iter(scene.codebook.spaces.values())).astype(np.float32)
    features = codes.to_dense(scene.codes, len(rows)) @ rows
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-9)


def clear_features(size, kinds=5):
    """Features of a few kinds with a little noise, of any length, and the kind of each."""
    centers = RANDOM.normal(size=(kinds, size))
    kind = RANDOM.integers(0, kinds, COUNT)
    lengths = RANDOM.uniform(0.5, 4, (COUNT, 1))
    noise = 0.01 * RANDOM.normal(size=(COUNT, size))
    return (lengths * (centers[kind] + noise)).astype(np.float32), kind


def langsplat(path, gaussians, *learnt, extent=None):
    """What `capture(include_feature=True)` of LangSplat (latents) or LangSplatV2 (logits, books)
    returns, with the iteration, by torch.save; the values of all parameters.
    """
    parameters = [torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(a))) for a in (
        gaussians.means,
        gaussians.sh[:, :1],
        gaussians.sh[:, 1:],
        np.log(gaussians.scales),
        2 * gaussians.quaternions_wxyz,
        np.log(gaussians.opacities / (1 - gaussians.opacities))[:, None],
        *learnt,
    )]  # fmt: skip
    optimizer = torch.optim.Adam(
        [{"params": parameters[6:], "lr": 0.0025, "name": "language_feature"}]
    )
    sum(p.square().sum() for p in parameters[6:]).backward()
    optimizer.step()
    nothing = torch.zeros(COUNT, 1)
    state = (3, *parameters, torch.zeros(COUNT), nothing, nothing, optimizer.state_dict())
    extent = np.float32(4.7) if extent is None else extent
    torch.save(((*state, extent), 10_000), path)
    return [p.detach().numpy() for p in parameters]
