"""Poses judged by photos alone: how far matched features lie from their epipolar lines."""

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

RATIO = 0.8
"""Lowe's ratio: a match must be this much better than the second best (IJCV 2004, section 7.1)."""
MAX_FEATURES = 2000


def matches(
    first: UInt8[np.ndarray, "h w 3"], second: UInt8[np.ndarray, "h w 3"]
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"]]:
    """Places (x, y) of SIFT features that choose each other, pixel centres at half-integers."""
    finder = cv2.SIFT.create(nfeatures=MAX_FEATURES)
    found = [
        finder.detectAndCompute(
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.full(image.shape[:2], 255, np.uint8)
        )
        for image in (first, second)
    ]
    (points, words), (other_points, other_words) = found
    if len(points) < 2 or len(other_points) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    forward, back = _best(words, other_words), _best(other_words, words)
    mutual = [(i, j) for i, j in forward.items() if back.get(j) == i]
    places = [np.array([p.pt for p in side]) + 0.5 for side in (points, other_points)]
    rows = np.array(mutual, dtype=np.int64).reshape(-1, 2)
    return places[0][rows[:, 0]], places[1][rows[:, 1]]


def _best(words: np.ndarray, others: np.ndarray) -> dict[int, int]:
    pairs = cv2.BFMatcher.create(cv2.NORM_L2).knnMatch(words, others, k=2)
    return {a.queryIdx: a.trainIdx for a, b in pairs if a.distance < RATIO * b.distance}


def epipolar_distance(
    first: Float64[np.ndarray, "n 2"],
    second: Float64[np.ndarray, "n 2"],
    intrinsics: Float64[np.ndarray, "2 3 3"],
    world_from_camera: Float64[np.ndarray, "2 4 4"],
) -> Float64[np.ndarray, " n"]:
    """Pixels between matched points and each other's epipolar lines, the mean of both images.

    Source: Hartley & Zisserman, 2nd ed., sections 9.2 and 11.4.3.
    """
    second_from_first = np.linalg.inv(world_from_camera[1]) @ world_from_camera[0]
    rotation, (x, y, z) = second_from_first[:3, :3], second_from_first[:3, 3]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    inverse = np.linalg.inv(intrinsics)
    fundamental = inverse[1].T @ cross @ rotation @ inverse[0]
    a, b = (np.column_stack([points, np.ones(len(points))]) for points in (first, second))
    lines_b, lines_a = a @ fundamental.T, b @ fundamental
    value = np.abs((b * lines_b).sum(1))
    lengths = np.linalg.norm(np.stack([lines_a, lines_b])[..., :2], axis=2)
    return (value / np.maximum(lengths, 1e-12)).mean(axis=0)
