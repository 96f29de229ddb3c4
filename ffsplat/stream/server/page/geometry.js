// Vectors, quaternions and similarities, as plain arrays.

export const add = (a, b, times = 1) => a.map((value, i) => value + times * b[i]);
export const subtract = (a, b) => a.map((value, i) => value - b[i]);
export const scaled = (a, factor) => a.map((value) => value * factor);
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const length = (a) => Math.hypot(a[0], a[1], a[2]);
export const unit = (a) => scaled(a, 1 / (length(a) || 1));

export function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

/** A unit vector at a right angle to another. */
export function perpendicular(a) {
  const least = a.map(Math.abs).indexOf(Math.min(...a.map(Math.abs)));
  return unit(cross(a, [0, 1, 2].map((axis) => Number(axis === least))));
}

/** The rows of the rotation of a quaternion (w, x, y, z) of length 1. */
export function rotationRows([w, x, y, z]) {
  return [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
}

/** The rows of scale times rotation, and the translation, of a submap's pose of eight numbers. */
export function similarity(pose) {
  const rows = rotationRows(pose.slice(1, 5));
  return { rows: rows.map((row) => scaled(row, pose[0])), translation: [...pose.slice(5, 8)] };
}

/** A point in the world, from the frame of a submap. */
export function toWorld({ rows, translation }, point) {
  return rows.map((row, i) => dot(row, point) + translation[i]);
}

/** The middle one of some numbers. */
export function median(values) {
  return values.length ? Float64Array.from(values).sort()[values.length >> 1] : 0;
}
