"""What a scene holds most of."""

import numpy as np

from ffsplat.codebook import rows_of_level
from ffsplat.query.question import meaning
from ffsplat.text import rows_under
from ffsplat.types import Scene


def most_common(scene: Scene, n: int = 3) -> list[tuple[str, float]]:
    """The n most common whole things and their share of all evidence, weighted by opacity.

    Walls, floors and other structure are left out unless nothing else was seen.
    Raises SceneFileError if the scene has no codes.
    """
    code, codebook = meaning(scene)
    rows = rows_of_level(codebook, "whole")
    evidence = code.weights * scene.gaussians.opacities_of_meaning[:, None]
    amounts = np.bincount(code.ids.ravel() + 1, evidence.ravel(), len(codebook) + 1)[1:]
    total = amounts[rows].sum()
    shares: dict[str, float] = {}
    for row in rows[amounts[rows] > 0]:
        name = codebook.names[row]
        shares[name] = shares.get(name, 0.0) + float(amounts[row] / total)
    structure = rows_under("structure")
    things = {name: share for name, share in shares.items() if name and name not in structure}
    return sorted((things or shares).items(), key=lambda item: (-item[1], item[0]))[:n]
