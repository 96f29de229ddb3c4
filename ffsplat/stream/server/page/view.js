// The picture of the map: when it is drawn, from where, and with what.

import { Camera } from "./camera.js";
import { add, cross, dot, length, median, scaled, similarity, subtract, toWorld } from "./geometry.js";
import { Lines, cameraOf } from "./lines.js";
import { Splats } from "./splats.js";

const FOCAL = 0.6; // of the longer side of the picture
const NEAR = 0.02; // of the distance to what the camera looks at
const SLOW_MS = 45; // a picture that takes longer is drawn as points, or fewer, on the way
const THINNEST = 16;
const REST_MS = 200; // without a move the camera stands still
const SAMPLE = 2000; // Gaussians by which the size of the map is judged
const PYRAMID = 0.03; // of that size
const FADE = 0.2; // sizes; lines that are nearer become faint
const AWAY = 3; // sizes from which all of the map is in sight
const WIDE = 1.6; // longer over shorter side up to which that is so; narrower ones stand back
const STEEP = 0.9; // radians below the level at which the map is looked down on

export class View {
  camera = new Camera();
  following = true;
  touched = false; // the user has moved the camera, or is shown something
  center = [0, 0, 0];
  radius = 1;
  ground = [0.055, 0.063, 0.078];
  costs = { quads: 0, points: 0 }; // milliseconds of a picture of all Gaussians, smoothed

  constructor(canvas, replica) {
    this.canvas = canvas;
    this.replica = replica;
    this.lines = new Lines();
    this.gl = canvas.getContext("webgl2", { antialias: false, alpha: false, depth: true });
    if (!this.gl) throw new Error("This browser has no WebGL 2, so the map cannot be drawn.");
    this.splats = new Splats(replica, () => this.invalidate());
    this.#build();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.#build();
      this.invalidate();
    });
    new ResizeObserver(() => this.invalidate()).observe(canvas);
  }

  isSettled = false; // all that there is has been drawn, and nothing moves
  #asked = false;
  #last = 0;
  #moved = 0;
  #sortedFor = "";
  #fence = null;

  #build() {
    this.splats.build(this.gl);
    this.lines.build(this.gl);
  }

  /** Draw soon. */
  invalidate() {
    this.isSettled = false;
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame((now) => {
      this.#asked = false;
      this.#frame(now);
    });
  }

  /** Show what changed in the map; null: all of it. */
  changed(places) {
    this.splats.changed(places);
    this.#sortedFor = "";
    this.#measure();
    const { frames, latest, poses } = this.replica;
    const kept = [...frames.values()].sort((a, b) => Number(a.number - b.number));
    this.cameras = kept.map((frame) => cameraOf(frame, poses)).filter(Boolean);
    const isFirst = !this.now;
    this.now = cameraOf(latest, poses);
    this.#trace();
    if (!this.touched && this.cameras.length) this.#stand();
    if (this.following) this.follow(true);
    if (this.following && isFirst) this.camera.land();
    this.invalidate();
  }

  /** Draw on a ground of this colour, with lines of those. */
  dress(ground, accent, ink) {
    this.ground = ground;
    Object.assign(this.lines, { accent, ink });
    this.#trace();
    this.invalidate();
  }

  #trace() {
    this.lines.show(this.cameras ?? [], this.following ? null : this.now, PYRAMID * this.radius);
  }

  /** The user moved the camera. */
  moved() {
    this.touched = true;
    this.#moved = performance.now();
    if (this.following) this.follow(false);
    this.invalidate();
  }

  /** Look through the camera that sends its pictures, or let go of it. */
  follow(on) {
    const began = on !== this.following;
    this.following = on;
    if (began) this.#trace();
    if (on && this.now) {
      const { center, forward } = this.now;
      this.camera.fly(center, add(center, forward, 0.7 * this.radius));
    }
    this.invalidate();
  }

  /** Look at the whole map from above and aside. */
  overview() {
    this.touched = true;
    this.follow(false);
    const { up } = this.camera;
    const level = cross(up, this.camera.axes().right);
    const away = add(scaled(level, -Math.cos(STEEP)), up, Math.sin(STEEP));
    const [shorter, longer] = [this.canvas.clientWidth, this.canvas.clientHeight].sort((a, b) => a - b);
    const back = Math.max(1, longer / Math.max(1, shorter) / WIDE);
    this.camera.fly(add(this.center, away, AWAY * back * this.radius), this.center);
  }

  /** Look at a box, from where a keyframe saw it well if one did. */
  show(center, minimum, maximum) {
    this.touched = true;
    this.follow(false);
    const size = Math.max(length(subtract(maximum, minimum)), 0.05 * this.radius);
    const rated = (this.cameras ?? []).map((camera) => [rating(camera, center, size), camera]);
    const [best, camera] = rated.reduce((a, b) => (b[0] < a[0] ? b : a), [Infinity, null]);
    const { forward } = this.camera.axes();
    const eye = best < Infinity ? camera.center : add(center, forward, -2 * size);
    this.camera.fly(eye, center);
    this.invalidate();
  }

  /** Where most of the map is, by a sample. */
  #measure() {
    const { replica } = this;
    const step = Math.max(1, Math.floor(replica.top / SAMPLE));
    const submaps = new Map([...replica.poses].map(([submap, pose]) => [submap, similarity(pose)]));
    const points = [];
    for (let place = 0; place < replica.top; place += step) {
      if (!replica.present[place]) continue;
      const mean = [...replica.words.f32.subarray(8 * place, 8 * place + 3)];
      points.push(toWorld(submaps.get(replica.words.u16[16 * place + 11]), mean));
    }
    if (points.length === 0) return;
    this.center = [0, 1, 2].map((axis) => median(points.map((point) => point[axis])));
    this.radius = median(points.map((point) => length(subtract(point, this.center)))) || 1;
  }

  /** Be upright as the cameras are on average. */
  #stand() {
    const up = this.cameras.reduce((sum, camera) => add(sum, camera.down, -1), [0, 0, 0]);
    if (length(up) > 0.1) this.camera.setUp(up);
  }

  /** Whether the camera is on its way. */
  get isMoving() {
    return performance.now() - this.#moved < REST_MS;
  }

  #frame(now) {
    const flies = this.camera.step(Math.min(100, now - this.#last));
    this.#last = now;
    if (flies) this.#moved = performance.now();
    const view = this.#setUp();
    const key = `${view.forward}`;
    if (key !== this.#sortedFor && this.splats.sort(view.forward, view.near)) this.#sortedFor = key;
    const { quads, points } = this.costs;
    const isSlow = this.isMoving && quads > SLOW_MS;
    const thin = isSlow ? Math.min(THINNEST, Math.ceil(points / SLOW_MS) || 1) : 0;
    this.#draw(view, thin);
    this.#time(thin);
    if (flies) this.invalidate();
    else if (thin) setTimeout(() => this.invalidate(), REST_MS);
    else this.isSettled = !this.splats.isSorting; // the end of which lets draw again
  }

  /** The size of the picture, and the numbers that the programs need. */
  #setUp() {
    const { canvas, camera } = this;
    const ratio = Math.min(devicePixelRatio, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) =>
      Math.max(1, Math.round(side * ratio)),
    );
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const rows = camera.rows();
    return {
      matrix: [...rows.flat(), 0, 0, 0, 1],
      lens: [FOCAL * Math.max(width, height), width, height],
      near: NEAR * camera.distance,
      fade: FADE * this.radius,
      forward: rows[2],
    };
  }

  #draw(view, thin) {
    const { gl } = this;
    if (gl.isContextLost()) return;
    gl.viewport(0, 0, view.lens[1], view.lens[2]);
    gl.clearColor(...this.ground, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.disable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.splats.draw(view, thin);
    this.lines.draw(view);
  }

  /** Measure how long the picture takes, without waiting for it. */
  #time(thin) {
    const { gl } = this;
    if (this.#fence || gl.isContextLost()) return;
    const began = performance.now();
    this.#fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    const look = () => {
      const isDone = gl.getSyncParameter(this.#fence, gl.SYNC_STATUS) === gl.SIGNALED;
      if (!isDone && performance.now() - began < 1000) return void setTimeout(look, 3);
      gl.deleteSync(this.#fence);
      this.#fence = null;
      const name = thin ? "points" : "quads";
      const cost = (performance.now() - began) * (thin || 1);
      this.costs[name] = this.costs[name] ? 0.5 * (this.costs[name] + cost) : cost;
    };
    setTimeout(look, 0);
  }
}

/** How well a camera sees a thing of a size; less is better, Infinity for not at all. */
function rating({ center, right, down, forward, sides }, point, size) {
  const sight = subtract(point, center);
  const depth = dot(forward, sight);
  const [x, y] = [right, down].map((axis) => dot(axis, sight) / depth);
  const [left, end, top, bottom] = sides;
  const isSeen = depth > 0.3 * size && x > left && x < end && y > top && y < bottom;
  return isSeen ? Math.abs(Math.log(depth / (1.8 * size))) + 0.5 * Math.hypot(x, y) : Infinity;
}
