"""How far a trajectory is from the true one, once a similarity has brought both together.

Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems", IROS 2012, section V; errors
by the way travelled as Geiger et al., "Are we ready for Autonomous Driving?", CVPR 2012, take them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ffsplat.alignment import (
    DegenerateAlignment,
    Similarity,
    camera_similarity,
    fit_similarity,
)

Poses = Float64[np.ndarray, "n 4 4"]


@dataclass(frozen=True)
class TrajectoryErrors:
    """Errors of a trajectory in the unit of the truth (metres) and in degrees.

    `absolute` (ATE) is the root mean square distance of the camera centres. `step_*` (RPE) are root
    mean squares over pairs of neighbouring frames; `travelled_*` are means over pairs that are
    `distance` apart along the true way, a metre of it; NaN where the way is shorter. `scale` is the
    truth's unit over that of the trajectory, `length` the length of the true way.
    """

    absolute: float
    step_move: float
    step_turn: float
    travelled_move: float
    travelled_turn: float
    scale: float
    length: float


def align_trajectory(guess: Poses, truth: Poses) -> Similarity:
    """The similarity that best maps a trajectory's centres onto the true ones (Umeyama, 1991).

    Where the centres lie on a line, which leaves a turn about it free, the cameras' own turns
    decide (`camera_similarity`). Raises DegenerateAlignment if all are in one place.
    """
    try:
        return fit_similarity(guess[:, :3, 3], truth[:, :3, 3])
    except DegenerateAlignment:
        return camera_similarity(guess, truth)


def trajectory_errors(guess: Poses, truth: Poses, distance: float = 1.0) -> TrajectoryErrors:
    """All errors of poses (world_from_camera) beside the true poses of the same frames, in order.

    Raises DegenerateAlignment for poses that are all in one place.
    """
    similarity = align_trajectory(guess, truth)
    moved = similarity.poses(guess)
    apart = np.square(moved[:, :3, 3] - truth[:, :3, 3]).sum(1)
    step = relative_errors(moved, truth, *neighbours(len(truth)))
    first, last, way = pairs_apart(truth, distance)
    travelled = relative_errors(moved, truth, first, last)
    per_metre = travelled / way[:, None] if len(way) else np.full((1, 2), np.nan)
    step_move, step_turn = np.sqrt(np.square(step).mean(0)).tolist()
    travelled_move, travelled_turn = per_metre.mean(0).tolist()
    return TrajectoryErrors(
        absolute=float(np.sqrt(apart.mean())),
        step_move=step_move,
        step_turn=step_turn,
        travelled_move=travelled_move,
        travelled_turn=travelled_turn,
        scale=similarity.scale,
        length=float(travelled_way(truth)[-1]),
    )


def relative_errors(
    guess: Poses, truth: Poses, first: Int64[np.ndarray, " p"], last: Int64[np.ndarray, " p"]
) -> Float64[np.ndarray, "p 2"]:
    """Length and angle (degrees) of (Q_i^-1 Q_j)^-1 P_i^-1 P_j, for the pairs (i, j).

    P are guesses, Q is the truth, in one unit. Source: Sturm et al., equation 2.
    """
    inverse = np.linalg.inv
    true = inverse(truth[first]) @ truth[last]
    error = inverse(true) @ inverse(guess[first]) @ guess[last]
    return np.stack([np.linalg.norm(error[:, :3, 3], axis=1), turn_angle(error[:, :3, :3])], 1)


def turn_angle(rotation: Float64[np.ndarray, "p 3 3"]) -> Float64[np.ndarray, " p"]:
    """The angle of each rotation in degrees, to full precision for small ones too.

    |R - 1| (Frobenius) is 2 sqrt(2) sin(angle / 2).
    """
    chord = np.linalg.norm(rotation - np.eye(3), axis=(1, 2)) / np.sqrt(8)
    return np.degrees(2 * np.arcsin(chord.clip(max=1)))


def neighbours(count: int) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
    """Each frame and the next."""
    return np.arange(count - 1), np.arange(1, count)


def pairs_apart(
    truth: Poses, distance: float
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Float64[np.ndarray, " p"]]:
    """Each frame, the first one that is at least `distance` farther on the way, and how far."""
    way = travelled_way(truth)
    last = np.searchsorted(way, way + distance)
    first = np.flatnonzero(last < len(way))
    last = last[first]
    return first, last, way[last] - way[first]


def travelled_way(truth: Poses) -> Float64[np.ndarray, " n"]:
    """The length of the way up to each frame."""
    steps = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1)
    return np.append(0.0, np.cumsum(steps))
