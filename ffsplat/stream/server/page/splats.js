// Draws the Gaussians of a replica: back to front as quads, or quickly as points.

import { Table, makeProgram } from "./gl.js";
import { similarity } from "./geometry.js";
import { POINT_FRAGMENT, POINT_VERTEX, QUAD_FRAGMENT, QUAD_VERTEX } from "./shaders.js";

const ROW = 1024; // places in a row of the tables
const SUBMAP_ROW = 256;
const FLOATS_A_SUBMAP = 16;

export class Splats {
  /** `sorted` is called when there is another order to draw. */
  constructor(replica, sorted) {
    this.replica = replica;
    this.marks = new Uint8Array(0); // 1 for each place that is to stand out
    this.marking = false;
    this.isSorting = false;
    this.order = { buffer: null, count: 0, isNew: false };
    this.submaps = new Float32Array(0);
    this.#worker = new Worker(new URL("./sort.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      this.#spare = this.order.buffer;
      this.order = { buffer: data.order, count: data.count, isNew: true };
      this.isSorting = false;
      sorted();
    };
    this.changed(null);
  }

  #worker;
  #spare = null;
  #dirty = null; // rows to write; null: all of them
  #stale = true; // submaps to write

  /** Tell of changed places, null for all; poses of submaps may have changed as well. */
  changed(places) {
    const { replica } = this;
    if (this.marks.length !== replica.capacity) {
      const marks = new Uint8Array(replica.capacity);
      if (this.marks.length < marks.length) marks.set(this.marks);
      this.marks = marks;
    }
    this.submaps = submapTable(replica.poses);
    this.#stale = true;
    this.touch(places);
    this.#worker.postMessage({ submaps: this.submaps, ...this.#rows(places) });
  }

  /** Have places written again, as their marks changed; null for all. */
  touch(places) {
    if (places === null) this.#dirty = null;
    else if (this.#dirty) for (const place of places) this.#dirty.add(Math.floor(place / ROW));
  }

  /** Begin to order for a view along `forward`, with its offset; false if that goes on already. */
  sort(forward, near) {
    if (this.isSorting) return false;
    this.isSorting = true;
    const order = this.#spare;
    this.#spare = null;
    this.#worker.postMessage({ forward, near, order }, order ? [order] : []);
    return true;
  }

  /** Make all that lies on the GPU, for a context that is new. */
  build(gl) {
    this.gl = gl;
    this.quads = makeProgram(gl, QUAD_VERTEX, QUAD_FRAGMENT);
    this.points = makeProgram(gl, POINT_VERTEX, POINT_FRAGMENT);
    this.tables = {
      records: new Table(gl, 2 * ROW, 4, ["RGBA32UI", "RGBA_INTEGER", "UNSIGNED_INT"]),
      marks: new Table(gl, ROW, 1, ["R8UI", "RED_INTEGER", "UNSIGNED_BYTE"]),
      order: new Table(gl, ROW, 1, ["R32UI", "RED_INTEGER", "UNSIGNED_INT"]),
      submaps: new Table(gl, 4 * SUBMAP_ROW, 4, ["RGBA32F", "RGBA", "FLOAT"]),
    };
    this.array = gl.createVertexArray(); // empty: vertices know all by their number
    this.#dirty = null;
    this.#stale = true;
    this.order.isNew = true;
  }

  /**
   * Draw into the picture that is bound; `view` has camera_from_world, lens and near.
   * `thin` 0 draws quads, k draws every k-th Gaussian as a point.
   */
  draw(view, thin) {
    const { gl, order } = this;
    this.#write();
    if (order.count === 0) return;
    const { program, uniforms } = thin ? this.points : this.quads;
    gl.useProgram(program);
    Object.entries(this.tables).forEach(([name, table], i) => table.bind(uniforms[name], i));
    gl.uniformMatrix4fv(uniforms.view, true, view.matrix);
    gl.uniform3fv(uniforms.lens, view.lens);
    gl.uniform1f(uniforms.near, view.near);
    gl.uniform1i(uniforms.marking, Number(this.marking));
    if (thin) gl.uniform1i(uniforms.thin, thin);
    gl.bindVertexArray(this.array);
    if (thin) gl.drawArrays(gl.POINTS, 0, Math.ceil(order.count / thin));
    else gl.drawArrays(gl.TRIANGLES, 0, 6 * order.count);
    gl.bindVertexArray(null);
  }

  /** Bring the tables up to date. */
  #write() {
    const { replica, tables } = this;
    const height = replica.capacity / ROW;
    const grew = [tables.records, tables.marks].map((table) => table.resize(height));
    if (grew.includes(true)) this.#dirty = null;
    for (const [first, end] of runs(this.#dirty, Math.ceil(replica.top / ROW))) {
      tables.records.write(replica.words.u32, first, end);
      tables.marks.write(this.marks, first, end);
    }
    this.#dirty = new Set();
    if (this.order.isNew && this.order.count) {
      tables.order.resize(height);
      tables.order.write(new Uint32Array(this.order.buffer), 0, Math.ceil(this.order.count / ROW));
    }
    this.order.isNew = false;
    if (!this.#stale) return;
    this.#stale = false;
    const rows = this.submaps.length / (FLOATS_A_SUBMAP * SUBMAP_ROW);
    tables.submaps.resize(rows);
    tables.submaps.write(this.submaps, 0, rows);
  }

  /** What the worker has to know of places. */
  #rows(places) {
    const { present, words, top } = this.replica;
    const chosen = places === null ? null : Uint32Array.from(places);
    const rows = new Float32Array(4 * (chosen ? chosen.length : top));
    for (let i = 0; i < rows.length / 4; i++) {
      const place = chosen ? chosen[i] : i;
      const x = present[place] ? words.f32[8 * place] : NaN;
      rows.set([x, words.f32[8 * place + 1], words.f32[8 * place + 2]], 4 * i);
      rows[4 * i + 3] = words.u16[16 * place + 11];
    }
    return { places: chosen, rows };
  }
}

/** Three rows of world_from_submap, and one that is not used, for each number of a submap. */
function submapTable(poses) {
  const most = Math.max(0, ...poses.keys());
  const rows = Math.floor(most / SUBMAP_ROW) + 1;
  const table = new Float32Array(FLOATS_A_SUBMAP * SUBMAP_ROW * rows);
  for (const [submap, pose] of poses) {
    const found = similarity(pose);
    found.rows.forEach((row, i) => {
      table.set([...row, found.translation[i]], FLOATS_A_SUBMAP * submap + 4 * i);
    });
  }
  return table;
}

/** Neighbouring numbers of a set as pairs of first and end; one pair to `end` for null. */
function runs(numbers, end) {
  if (numbers === null) return end ? [[0, end]] : [];
  const found = [];
  for (const number of [...numbers].filter((one) => one < end).sort((a, b) => a - b)) {
    if (found.length && found.at(-1)[1] === number) found.at(-1)[1]++;
    else found.push([number, number + 1]);
  }
  return found;
}
