// The way of the camera as lines: keyframes, and where the camera is now.

import { makeProgram } from "./gl.js";
import { rotationRows, similarity, toWorld } from "./geometry.js";
import { LINE_FRAGMENT, LINE_VERTEX } from "./shaders.js";

const PATH_ALPHA = 0.9;
const KEYFRAME_ALPHA = 0.35;
const EDGES = [0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 3, 3, 4, 4, 1];

/** Centre and directions in the world of a frame's camera, and its field of view; null: no submap. */
export function cameraOf(frame, poses) {
  const pose = frame && poses.get(frame.submap);
  if (!pose) return null;
  const submap = similarity(pose);
  const turned = rotationRows(frame.pose);
  const turn = submap.rows.map((row) =>
    [0, 1, 2].map((j) => row.reduce((sum, value, k) => sum + (value * turned[k][j]) / pose[0], 0)),
  );
  const [fx, fy, cx, cy, width, height] = frame.intrinsics;
  const sides = [-cx / fx, (width - cx) / fx, -cy / fy, (height - cy) / fy];
  const [right, down, forward] = [0, 1, 2].map((j) => turn.map((row) => row[j]));
  return { center: toWorld(submap, [...frame.pose.slice(4)]), right, down, forward, sides };
}

/** The five corners of a pyramid that shows what a camera sees. */
function corners({ center, right, down, forward, sides }, depth) {
  const [left, end, top, bottom] = sides;
  const at = (x, y) => center.map((c, i) => c + depth * (forward[i] + x * right[i] + y * down[i]));
  return [center, at(left, top), at(end, top), at(end, bottom), at(left, bottom)];
}

export class Lines {
  accent = [0.35, 0.75, 1]; // of the way and of keyframes
  ink = [1, 1, 1]; // of the camera as it is now
  #vertices = new Float32Array(0);
  #isNew = true;

  /** Show cameras in their order, and the last one apart; `size` is that of the pyramids. */
  show(cameras, now, size) {
    const numbers = [];
    const [path, keyframe] = [PATH_ALPHA, KEYFRAME_ALPHA].map((alpha) => [...this.accent, alpha]);
    const latest = [...this.ink, 1];
    const draw = (points, tint) => points.forEach((point) => numbers.push(...point, ...tint));
    cameras.forEach((camera, i) => {
      if (i > 0) draw([cameras[i - 1].center, camera.center], path);
      const points = corners(camera, size);
      draw(EDGES.map((corner) => points[corner]), keyframe);
    });
    if (now) {
      if (cameras.length) draw([cameras.at(-1).center, now.center], path);
      const points = corners(now, 2 * size);
      draw(EDGES.map((corner) => points[corner]), latest);
    }
    this.#vertices = Float32Array.from(numbers);
    this.#isNew = true;
  }

  build(gl) {
    this.gl = gl;
    this.lines = makeProgram(gl, LINE_VERTEX, LINE_FRAGMENT);
    this.buffer = gl.createBuffer();
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    for (const [name, count, offset] of [
      ["position", 3, 0],
      ["tint", 4, 12],
    ]) {
      const at = gl.getAttribLocation(this.lines.program, name);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, count, gl.FLOAT, false, 28, offset);
    }
    gl.bindVertexArray(null);
    this.#isNew = true;
  }

  draw(view) {
    const { gl } = this;
    if (this.#isNew) {
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
      gl.bufferData(gl.ARRAY_BUFFER, this.#vertices, gl.STATIC_DRAW);
      this.#isNew = false;
    }
    const { program, uniforms } = this.lines;
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniforms.view, true, view.matrix);
    gl.uniform3fv(uniforms.lens, view.lens);
    gl.uniform1f(uniforms.near, view.near);
    gl.uniform1f(uniforms.fade, view.fade);
    gl.bindVertexArray(this.array);
    gl.drawArrays(gl.LINES, 0, this.#vertices.length / 7);
    gl.bindVertexArray(null);
  }
}
