"""The points of views at every few pixels: enough to tell how two worlds lie to each other."""

import math

from ffsplat.stream.map.compiled import brief


@brief
def grid_points(depth, errors, lenses, poses, step, points, distances):
    """Write the points of depth maps of every `step`th pixel, the first one at step // 2.

    `lenses` are (fx, fy, cx, cy) in pixels of the whole views, `poses` world_from_camera, (v, 4, 4)
    each; `errors` is of log depth, and `distances` that of each point in the unit of depth.
    """
    for view in range(len(depth)):
        fx, fy, cx, cy = lenses[view]
        pose = poses[view]
        for i in range(depth.shape[1]):
            for j in range(depth.shape[2]):
                z = depth[view, i, j]
                x = (j * step + step // 2 + 0.5 - cx) / fx * z
                y = (i * step + step // 2 + 0.5 - cy) / fy * z
                for k in range(3):
                    across = pose[k, 0] * x + pose[k, 1] * y + pose[k, 2] * z
                    points[view, i, j, k] = across + pose[k, 3]
                distances[view, i, j] = math.sqrt(x * x + y * y + z * z) * errors[view, i, j]
