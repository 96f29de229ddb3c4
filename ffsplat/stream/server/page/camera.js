// A camera that looks at a point from a distance. Cameras have x right, y down, z forward.

import { add, cross, dot, perpendicular, scaled, subtract, unit } from "./geometry.js";

const STEEPEST = 1.5; // radians; straight up or down there is no left and right
const SMOOTH_MS = 180; // in which a flight gets by a factor of e nearer

export class Camera {
  target = [0, 0, 0];
  distance = 4;
  yaw = 0;
  pitch = 0;
  #north = [0, 0, 1];
  #up = [0, -1, 0];
  #goal = null;

  get up() {
    return this.#up;
  }

  /** Stand upright by this direction of the world; the camera looks where it did. */
  setUp(up) {
    const { forward } = this.axes();
    this.#up = unit(up);
    this.#north = perpendicular(this.#up);
    Object.assign(this, this.anglesOf(forward));
    if (this.#goal) this.#goal = { ...this.#goal, yaw: this.yaw, pitch: this.pitch };
  }

  /** Yaw and pitch with which the camera looks along a direction. */
  anglesOf(direction) {
    const forward = unit(direction);
    const east = cross(this.#north, this.#up);
    const height = Math.min(1, Math.max(-1, dot(forward, this.#up)));
    const yaw = Math.atan2(dot(forward, east), dot(forward, this.#north));
    return { yaw, pitch: steep(Math.asin(height)) };
  }

  /** The directions of the camera in the world. */
  axes() {
    const east = cross(this.#north, this.#up);
    const level = add(scaled(this.#north, Math.cos(this.yaw)), east, Math.sin(this.yaw));
    const forward = add(scaled(level, Math.cos(this.pitch)), this.#up, Math.sin(this.pitch));
    const right = unit(cross(forward, this.#up));
    return { right, down: cross(forward, right), forward };
  }

  get eye() {
    return add(this.target, this.axes().forward, -this.distance);
  }

  /** Rows right, down, forward of camera_from_world, each with its translation. */
  rows() {
    const { right, down, forward } = this.axes();
    const eye = this.eye;
    return [right, down, forward].map((axis) => [...axis, -dot(axis, eye)]);
  }

  /** Turn around the target, in radians. */
  orbit(right, up) {
    this.#goal = null;
    this.yaw += right;
    this.pitch = steep(this.pitch + up);
  }

  /** Move sideways, in parts of the distance to the target. */
  pan(right, down) {
    this.#goal = null;
    const axes = this.axes();
    this.target = add(this.target, axes.right, right * this.distance);
    this.target = add(this.target, axes.down, down * this.distance);
  }

  /** Come nearer to the target by a factor. */
  zoom(factor) {
    this.#goal = null;
    this.distance = Math.min(1e6, Math.max(1e-4, this.distance / factor));
  }

  /** Move soon, bit by bit, to where `eye` looks at `target`. */
  fly(eye, target) {
    const sight = subtract(target, eye);
    this.#goal = { target, distance: Math.hypot(...sight), ...this.anglesOf(sight) };
  }

  /** Be at the end of a flight at once. */
  land() {
    if (this.#goal) Object.assign(this, this.#goal);
    this.#goal = null;
  }

  /** Go on with a flight; whether there is one. */
  step(milliseconds) {
    if (!this.#goal) return false;
    const goal = this.#goal;
    const share = 1 - Math.exp(-milliseconds / SMOOTH_MS);
    const turn = goal.yaw - this.yaw;
    const yaw = turn - 2 * Math.PI * Math.round(turn / (2 * Math.PI)); // the short way round
    const path = subtract(goal.target, this.target);
    this.yaw += share * yaw;
    this.pitch += share * (goal.pitch - this.pitch);
    this.target = add(this.target, path, share);
    this.distance *= (goal.distance / this.distance) ** share;
    const left = Math.hypot(...path) / goal.distance + Math.abs(yaw);
    const rest = Math.abs(goal.pitch - this.pitch) + Math.abs(goal.distance / this.distance - 1);
    if (left + rest < 2e-3) this.land();
    return true;
  }
}

const steep = (pitch) => Math.min(STEEPEST, Math.max(-STEEPEST, pitch));
