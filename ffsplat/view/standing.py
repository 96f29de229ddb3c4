"""Where the camera of a page stands: at first, and before a thing."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ffsplat.types import Scene
from ffsplat.view.frusta import extent_of, vertical_fov
from ffsplat.view.paint import VIEW_COSINE

Vector = Float[np.ndarray, "3"]

FIELD_OF_VIEW = 0.8
"""Vertical, in radians, where no camera says otherwise."""

STEP_BACK, STEP_UP = 0.25, 0.12
"""Of the depth before the first camera: from above and behind it, it is seen to stand there, and
its photo hides little."""

SEEN = 0.1
"""Of a scene from the origin, below which it is seen from outside: a part that was cut out, say."""

CLEAR = 10.0
"""Scales of a Gaussian from which it is seen whole."""

FILLED = 0.6
"""Of the view by a thing that a camera is brought before."""

CLOSEST = 300.0
"""Times what is too near: a small thing is to be seen where it stands, not its Gaussians alone."""

INNER = 95
"""Percentage of a thing's Gaussians that are to be within the view; the others may be strays."""


@dataclass(frozen=True, eq=False)
class Stand:
    """A place, where it looks, what is up, the field of view (radians), and what is too near."""

    position: Vector
    look_at: Vector
    up: Vector
    fov: float
    near: float


def first_stand(scene: Scene) -> Stand:
    """A little above and behind where the first photo was taken, looking as it does.

    Without cameras that is the origin, as a model has it; a scene that no model made is seen from
    outside, and so is one that the origin does not look at.
    """
    fov = FIELD_OF_VIEW
    if scene.cameras is not None and len(scene.cameras):
        pose = scene.cameras.world_from_camera[0].astype(float)
        fov = vertical_fov(scene.cameras)
    elif len(scene) and ("model" not in scene.provenance or _seen_from_origin(scene) < SEEN):
        return _outside(scene)
    else:
        pose = np.eye(4)
    ahead = _depth_before(scene, pose)
    eye, up, forward = pose[:3, 3], -pose[:3, 1], pose[:3, 2]
    position = eye + ahead * (STEP_UP * up - STEP_BACK * forward)
    return Stand(position, eye + ahead * forward, up, fov, _near(ahead))


def before(stand: Stand, center: Vector, points: Float[np.ndarray, "n 3"]) -> Vector:
    """The place from which a thing of these points is seen from the same side, as large as fits.

    Seen from a distance d, a point at the offset o from the centre is within the view if its
    distance from the axis is at most tan(fov / 2) times its depth, d - o along the axis.
    """
    offset = stand.position - center
    distance = float(np.linalg.norm(offset))
    backwards = offset / distance if distance > 0 else stand.up
    along = (points - center) @ backwards
    aside = np.linalg.norm(points - center - along[:, None] * backwards, axis=1)
    wanted = along + aside / (FILLED * np.tan(np.clip(stand.fov, 0.1, 3.0) / 2))
    return center + max(float(np.percentile(wanted, INNER)), CLOSEST * stand.near) * backwards


def _outside(scene: Scene) -> Stand:
    """As far away as `orbit` goes, but not within the Gaussians themselves."""
    from ffsplat.render import orbit

    pose = orbit(scene, 1, (640, 480)).world_from_camera[0].astype(float)
    ahead = _depth_before(scene, pose)
    look_at = pose[:3, 3] + ahead * pose[:3, 2]
    ahead = max(ahead, CLEAR * float(np.median(scene.gaussians.scales.max(axis=1))))
    position = look_at - ahead * pose[:3, 2]
    return Stand(position, look_at, -pose[:3, 1], FIELD_OF_VIEW, _near(ahead))


def _seen_from_origin(scene: Scene) -> float:
    """The share of the scene that a model's first camera looks at."""
    means = scene.gaussians.means
    return float((means[:, 2] > VIEW_COSINE * np.linalg.norm(means, axis=1)).mean())


def _before(scene: Scene, pose: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, " m"]:
    """The depths of what lies before a camera."""
    depth = (scene.gaussians.means - pose[:3, 3]) @ pose[:3, 2]
    return depth[depth > 0]


def _depth_before(scene: Scene, pose: Float[np.ndarray, "4 4"]) -> float:
    """The median of them; of an empty view, the extent of the scene."""
    depths = _before(scene, pose)
    return float(np.median(depths)) if len(depths) else extent_of(scene)


def _near(ahead: float) -> float:
    return 1e-3 * max(ahead, 1e-3)
