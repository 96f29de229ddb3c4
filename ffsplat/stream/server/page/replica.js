// A copy of the map, and how deltas change it. PROTOCOL.md, sections 6.3 and 6.4.

import { ARRAYS } from "./document.js";
import { require } from "./wire.js";

/** Places that a copy has at most: 92 MiB of memory. */
export const MAX_PLACES = 1 << 21;
const MAX_KEYFRAMES = 1000;
const FIRST_ROOM = 1 << 14;

/**
 * Where the columns of a Gaussian lie in its record of 32 bytes, which is also what is drawn: array,
 * type, values, and the index of the first of them in a record that is read as that type.
 */
const RECORD = [
  ["splats.means", "f32", 3, 0],
  ["splats.quaternions_wxyz", "i8", 4, 12],
  ["splats.scales", "u16", 3, 8],
  ["splats.submaps", "u16", 1, 11],
  ["splats.colors", "u8", 3, 24],
  ["splats.opacities", "u8", 1, 27],
  ["splats.instances", "i32", 1, 7],
];
export const RECORD_BYTES = 32;
const STRIDES = { f32: 8, i32: 8, u16: 16, i8: 32, u8: 32 };

/** The map as of delta `number`. `onChange` is told which places changed: an array, null for all. */
export class Replica {
  constructor(onChange = () => {}) {
    this.onChange = onChange;
    this.clear();
  }

  /** Forget all: the map is empty and its number 0. */
  clear() {
    this.number = this.epoch = this.count = this.capacity = 0;
    this.time = 0n;
    this.top = 0; // all places in use are below
    this.poses = new Map(); // of submaps: scale, quaternion, translation
    this.frames = new Map(); // keyframes by number
    this.latest = null; // the last frame that was placed, a keyframe or not
    this.names = [];
    this.codebook = null;
    this.#grow(FIRST_ROOM);
    this.onChange(null);
  }

  /** Apply the next delta; false, and nothing happens, for one that came before. */
  apply(document) {
    const number = Number(document.arrays.about[0]);
    if (number <= this.number) return false;
    require(number === this.number + 1, `delta ${number} after ${this.number}: some are missing`);
    this.#change(document);
    return true;
  }

  /** Forget all and begin with a snapshot. */
  restore(document) {
    const absent = ["removed", "removed_submaps"].every((name) => !document.arrays[name].length);
    require(absent && !document.arrays.row_map, "a snapshot that takes something away");
    this.clear();
    this.#change(document);
  }

  /** The arrays of a snapshot, by name. */
  snapshot() {
    const places = [];
    for (let place = 0; place < this.top; place++) if (this.present[place]) places.push(place);
    const submaps = [...this.poses.keys()].sort((a, b) => a - b);
    const frames = [...this.frames.keys()].sort(ascending).map((number) => this.frames.get(number));
    const arrays = {
      about: BigInt64Array.of(BigInt(this.number), BigInt(this.epoch), this.time),
      "splats.gids": Uint32Array.from(places),
      removed: new Uint32Array(),
      submaps: Uint16Array.from(submaps),
      submap_poses: Float64Array.from(submaps.flatMap((submap) => [...this.poses.get(submap)])),
      removed_submaps: new Uint16Array(),
      "frames.numbers": BigInt64Array.from(frames, (frame) => frame.number),
      "frames.times_ns": BigInt64Array.from(frames, (frame) => frame.time),
      "frames.submaps": Uint16Array.from(frames, (frame) => frame.submap),
      "frames.poses": Float64Array.from(frames.flatMap((frame) => [...frame.pose])),
      "frames.intrinsics": Float32Array.from(frames.flatMap((frame) => [...frame.intrinsics])),
      "frames.keyframes": new Uint8Array(frames.length).fill(1),
      "splats.ids": gather(this.ids, places, 4, 4, 0),
      "splats.weights": gather(this.weights, places, 4, 4, 0),
    };
    for (const [name, type, count, offset] of RECORD) {
      arrays[name] = gather(this.words[type], places, count, STRIDES[type], offset);
    }
    return { ...arrays, ...this.codebook };
  }

  /** Steps 1 to 7 of the text. What does not fit leaves an empty map. */
  #change({ arrays, names }) {
    try {
      if (arrays.row_map) this.#remap(arrays.row_map);
      this.#remove(arrays);
      arrays.submaps.forEach((submap, i) => {
        this.poses.set(submap, arrays.submap_poses.slice(8 * i, 8 * i + 8));
      });
      this.#put(arrays);
      if (names !== null) this.#takeCodebook(arrays, names);
      this.#checkIds(names !== null || arrays.row_map ? this.#places() : arrays["splats.gids"]);
      this.#follow(arrays);
    } catch (error) {
      this.clear();
      throw error;
    }
    const [number, epoch, time] = arrays.about;
    Object.assign(this, { number: Number(number), epoch: Number(epoch), time });
    const all = arrays.removed_submaps.length > 0;
    this.onChange(all ? null : [...arrays["splats.gids"], ...arrays.removed]);
  }

  *#places() {
    for (let place = 0; place < this.top; place++) if (this.present[place]) yield place;
  }

  #grow(needed) {
    require(needed <= MAX_PLACES, `place ${needed - 1} is over ${MAX_PLACES}`);
    if (needed <= this.capacity) return;
    const room = Math.min(MAX_PLACES, Math.max(FIRST_ROOM, 2 ** Math.ceil(Math.log2(needed))));
    const old = this.capacity === 0 ? null : this;
    const longer = (Type, size, before) => {
      const array = new Type(size * room);
      if (old) array.set(before);
      return array;
    };
    this.present = longer(Uint8Array, 1, this.present);
    this.ids = longer(Int16Array, 4, this.ids);
    this.weights = longer(Uint8Array, 4, this.weights);
    const bytes = longer(Uint8Array, RECORD_BYTES, this.words?.u8);
    const { buffer } = bytes;
    this.words = {
      u8: bytes,
      i8: new Int8Array(buffer),
      u16: new Uint16Array(buffer),
      u32: new Uint32Array(buffer),
      i32: new Int32Array(buffer),
      f32: new Float32Array(buffer),
    };
    this.capacity = room;
  }

  #remap(rowMap) {
    for (const place of this.#places()) {
      const at = 4 * place;
      const ids = this.ids.subarray(at, at + 4);
      require(ids.every((id) => id < rowMap.length), "row_map lacks a row");
      if (ids.every((id) => id < 0 || rowMap[id] === id)) continue;
      const sums = new Map(); // by new row, in the order of the pairs
      ids.forEach((id, pair) => {
        const row = id < 0 ? -1 : rowMap[id];
        if (row >= 0) sums.set(row, (sums.get(row) ?? 0) + this.weights[at + pair]);
      });
      const pairs = [...sums].map(([row, sum]) => [row, Math.min(sum, 255)]);
      pairs.sort(([row, sum], [other, others]) => others - sum || row - other);
      for (let pair = 0; pair < 4; pair++) {
        [this.ids[at + pair], this.weights[at + pair]] = pairs[pair] ?? [-1, 0];
      }
    }
  }

  #remove(arrays) {
    for (const place of arrays.removed) this.#free(place);
    const gone = new Set(arrays.removed_submaps);
    if (gone.size === 0) return;
    for (const submap of gone) this.poses.delete(submap);
    for (const place of this.#places()) {
      if (gone.has(this.words.u16[16 * place + 11])) this.#free(place);
    }
    for (const [number, frame] of this.frames) if (gone.has(frame.submap)) this.frames.delete(number);
    if (this.latest && gone.has(this.latest.submap)) this.latest = null;
  }

  #free(place) {
    if (place >= this.top || !this.present[place]) return;
    this.present[place] = 0;
    this.count--;
  }

  #put(arrays) {
    const places = arrays["splats.gids"];
    if (places.length === 0) return;
    this.#grow(places.at(-1) + 1);
    this.top = Math.max(this.top, places.at(-1) + 1);
    const isThere = arrays["splats.submaps"].every((submap) => this.poses.has(submap));
    require(isThere, "a Gaussian in a submap that is not there");
    for (const place of places) {
      if (!this.present[place]) this.count++;
      this.present[place] = 1;
    }
    for (const [name, type, count, offset] of RECORD) {
      scatter(this.words[type], places, arrays[name], count, STRIDES[type], offset);
    }
    scatter(this.ids, places, arrays["splats.ids"], 4, 4, 0);
    scatter(this.weights, places, arrays["splats.weights"], 4, 4, 0);
  }

  #takeCodebook(arrays, names) {
    const columns = Object.entries(arrays).filter(([name]) => name.startsWith("codebook."));
    // Copies: views would keep the whole document.
    this.codebook = Object.fromEntries(columns.map(([name, values]) => [name, values.slice()]));
    this.names = names;
  }

  #checkIds(places) {
    if (this.codebook === null) return;
    for (const place of places) {
      for (let at = 4 * place; at < 4 * place + 4; at++) {
        require(this.ids[at] < this.names.length, "an ID that the codebook lacks");
      }
    }
  }

  #follow(arrays) {
    const numbers = arrays["frames.numbers"];
    for (let i = 0; i < numbers.length; i++) {
      const frame = {
        number: numbers[i],
        time: arrays["frames.times_ns"][i],
        submap: arrays["frames.submaps"][i],
        pose: arrays["frames.poses"].slice(7 * i, 7 * i + 7),
        intrinsics: arrays["frames.intrinsics"].slice(6 * i, 6 * i + 6),
      };
      require(this.poses.has(frame.submap), "a frame in a submap that is not there");
      if (arrays["frames.keyframes"][i]) this.frames.set(frame.number, frame);
      else this.frames.delete(frame.number);
      this.latest = frame;
    }
    if (this.frames.size <= MAX_KEYFRAMES) return;
    const oldest = [...this.frames.keys()].sort(ascending).slice(0, -MAX_KEYFRAMES);
    for (const number of oldest) this.frames.delete(number);
  }
}

const ascending = (a, b) => (a < b ? -1 : Number(a > b));

/** Rows of `count` values into records `stride` values apart. */
function scatter(records, places, values, count, stride, offset) {
  for (let i = 0; i < places.length; i++) {
    const at = stride * places[i] + offset;
    for (let k = 0; k < count; k++) records[at + k] = values[count * i + k];
  }
}

/** The rows that `scatter` put there. */
function gather(records, places, count, stride, offset) {
  const values = new records.constructor(count * places.length);
  places.forEach((place, i) => {
    const at = stride * place + offset;
    values.set(records.subarray(at, at + count), count * i);
  });
  return values;
}

/** SHA-256 of each array of a snapshot, for those who compare copies. */
export async function digests(replica) {
  const found = {};
  for (const [name, values] of Object.entries(replica.snapshot())) {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    found[name] = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  const missing = Object.keys(ARRAYS).filter((name) => !(name in found));
  if (missing.length) throw new Error(`no digest of ${missing}`);
  return found;
}
