// The document of a delta: named arrays with the form and the values of PROTOCOL.md, section 6.2.

import { ProtocolError, require } from "./wire.js";

const TYPES = {
  I64: BigInt64Array,
  F64: Float64Array,
  I32: Int32Array,
  U32: Uint32Array,
  F32: Float32Array,
  I16: Int16Array,
  U16: Uint16Array,
  F16: Uint16Array, // as its bits: what draws splats takes them as they are
  I8: Int8Array,
  U8: Uint8Array,
};

/** Type and columns (0: one axis) of the arrays that each document has. */
export const ARRAYS = {
  about: ["I64", 0],
  "splats.gids": ["U32", 0],
  "splats.submaps": ["U16", 0],
  "splats.means": ["F32", 3],
  "splats.scales": ["F16", 3],
  "splats.quaternions_wxyz": ["I8", 4],
  "splats.opacities": ["U8", 0],
  "splats.colors": ["U8", 3],
  "splats.ids": ["I16", 4],
  "splats.weights": ["U8", 4],
  "splats.instances": ["I32", 0],
  removed: ["U32", 0],
  submaps: ["U16", 0],
  submap_poses: ["F64", 8],
  removed_submaps: ["U16", 0],
  "frames.numbers": ["I64", 0],
  "frames.times_ns": ["I64", 0],
  "frames.submaps": ["U16", 0],
  "frames.poses": ["F64", 7],
  "frames.intrinsics": ["F32", 6],
  "frames.keyframes": ["U8", 0],
};

const ROW_MAP = { row_map: ["I16", 0] };

const CODEBOOK = {
  "codebook.names": ["U8", 0],
  "codebook.levels": ["I8", 0],
  "codebook.parents": ["I16", 0],
  "codebook.counts": ["F32", 0],
  "codebook.spaces": ["U8", 0],
};

const MAX_HEADER = 65536;
const MAX_SPACES = 16;
const MAX_ROWS = 32768;
const FAR = 1e9;
const MAX_PIXELS = 1e6;
const UNIT = 1e-3;
const ROUNDED = 1e-2; // how far a length in half floats may be from 1
const F16_INFINITY = 0x7c00; // the bits of all that is finite and not negative are below

/**
 * The arrays of a document by name, flat; with a codebook, `names` are those of its rows.
 * Number and time are those of the message that completed it.
 */
export function readDocument(buffer, { number, time }) {
  const found = readTensors(buffer);
  const wanted = { ...ARRAYS };
  if (found.has("row_map")) Object.assign(wanted, ROW_MAP);
  let names = null;
  if (found.has("codebook.names")) {
    Object.assign(wanted, CODEBOOK);
    const spaces = lines(found.get("codebook.spaces")?.values ?? new Uint8Array());
    require(spaces.length <= MAX_SPACES, "too many text spaces");
    spaces.forEach((_, index) => (wanted[`codebook.space.${index}`] = ["F16", null]));
    names = lines(found.get("codebook.names").values);
  }
  const arrays = {};
  for (const [name, [type, columns]] of Object.entries(wanted)) {
    const entry = found.get(name);
    require(entry !== undefined, `the array ${name} is missing`);
    const width = columns === null ? entry.shape[1] : columns;
    const fits = entry.dtype === type && (entry.shape[1] ?? 0) === width && width !== undefined;
    require(fits, `the array ${name} has another form`);
    arrays[name] = entry.values;
    arrays[name].rows = entry.shape[0];
  }
  require(found.size === Object.keys(wanted).length, "an unknown array");
  checkRows(arrays);
  const { about } = arrays;
  require(about[0] === number && about[2] === time, "a delta with two numbers or times");
  checkValues(arrays);
  if (names !== null) checkCodebook(arrays, names);
  return { arrays, names };
}

/** Type, shape and values of each array of a safetensors file that fills it without gaps. */
function readTensors(buffer) {
  require(buffer.byteLength >= 8, "a document without a header");
  const length = new DataView(buffer).getBigUint64(0, true);
  const start = 8 + Number(length);
  require(start <= buffer.byteLength, "a document that ends within its header");
  require(length <= MAX_HEADER, "the header of a document is too large", 4413);
  const header = parseHeader(new Uint8Array(buffer, 8, Number(length)));
  const found = new Map();
  let end = 0;
  for (const [name, entry] of Object.entries(header)) {
    const { dtype, shape, data_offsets: offsets, ...others } = entry ?? {};
    require(dtype in TYPES && Object.keys(others).length === 0, `${name} has another form`);
    const sizes = [shape, offsets].every((list) => Array.isArray(list) && list.every(isSize));
    require(sizes && [1, 2].includes(shape.length), `${name} has another form`);
    const count = shape.reduce((product, side) => product * side, 1);
    const width = dtype === "F16" ? 2 : TYPES[dtype].BYTES_PER_ELEMENT;
    const at = start + end;
    require(offsets[0] === end && offsets[1] === end + count * width, `a gap before ${name}`);
    require(start + offsets[1] <= buffer.byteLength, `${name} lies beyond the end`);
    require(at % width === 0, `${name} is not at a multiple of its width`);
    found.set(name, { dtype, shape, values: new TYPES[dtype](buffer, at, count) });
    end = offsets[1];
  }
  require(start + end === buffer.byteLength, "bytes follow the last array");
  return found;
}

function parseHeader(bytes) {
  try {
    const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    require(typeof header === "object" && header !== null, "the header is no object");
    return header;
  } catch (error) {
    if (error instanceof ProtocolError) throw error;
    throw new ProtocolError("the header of a document is no JSON");
  }
}

const isSize = (value) => Number.isSafeInteger(value) && value >= 0 && value <= 2 ** 28;

/** Texts with a line feed between two of them. */
function lines(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes).split("\n");
  } catch {
    throw new ProtocolError("a name that is not UTF-8");
  }
}

/** Columns of the same table have as many rows, and what must rise does. */
function checkRows(arrays) {
  const rows = (name) => arrays[name].rows;
  for (const table of ["splats.", "frames.", "submap"]) {
    const counts = Object.keys(arrays).filter((name) => name.startsWith(table)).map(rows);
    require(new Set(counts).size === 1, `columns of ${table} differ in length`);
  }
  require(rows("about") === 3, "about has not three numbers");
  for (const name of ["splats.gids", "removed", "submaps", "removed_submaps"]) {
    const values = arrays[name];
    require(values.every((value, i) => i === 0 || value > values[i - 1]), `${name} do not rise`);
  }
}

/** Values are in the ranges that the tables state. */
function checkValues(arrays) {
  const every = (name, test) => require(arrays[name].every(test), `${name} out of range`);
  const isNear = (value) => Math.abs(value) <= FAR; // false for what is not finite
  const isOptional = (value) => value >= -1;
  require(arrays.about[0] >= 0 && arrays.about[1] >= 0, "a negative number or epoch");
  every("splats.means", isNear);
  every("splats.scales", (bits) => bits < F16_INFINITY || bits === 0x8000); // or minus zero
  every("splats.ids", isOptional);
  every("splats.instances", isOptional);
  every("splats.weights", (weight, i) => weight === 0 || arrays["splats.ids"][i] >= 0);
  const turns = arrays["splats.quaternions_wxyz"];
  for (let i = 0; i < turns.length; i += 4) {
    require(turns[i] || turns[i + 1] || turns[i + 2] || turns[i + 3], "a quaternion of zeros");
  }
  checkPoses(arrays.submap_poses, 8, 1);
  const scales = arrays.submap_poses.filter((_, i) => i % 8 === 0);
  require(scales.every((scale) => scale >= 1 / FAR && scale <= FAR), "a scale out of range");
  every("frames.numbers", (number) => number >= 0n);
  checkPoses(arrays["frames.poses"], 7, 0);
  every("frames.intrinsics", (value, i) => {
    const isOffset = i % 6 === 2 || i % 6 === 3;
    return Math.abs(value) <= MAX_PIXELS && (isOffset || value > 0);
  });
  every("frames.keyframes", (value) => value <= 1);
  if (arrays.row_map) every("row_map", isOptional);
}

/** Rows hold, from `at` on, a quaternion of length 1, and all of a row is finite. */
function checkPoses(poses, columns, at) {
  require(poses.every((value) => Math.abs(value) <= FAR), "a pose too far away or not finite");
  for (let i = at; i < poses.length; i += columns) {
    const length = Math.hypot(poses[i], poses[i + 1], poses[i + 2], poses[i + 3]);
    require(Math.abs(length - 1) <= UNIT, "the quaternion of a pose is not of length 1");
  }
}

function checkCodebook(arrays, names) {
  const rows = names.length;
  require(rows <= MAX_ROWS, "too many rows in the codebook");
  for (const name of Object.keys(arrays).filter((one) => /^codebook\.(?!names|spaces)/.test(one))) {
    require(arrays[name].rows === rows, `${name} has not a row for each name`);
  }
  const { "codebook.levels": levels, "codebook.parents": parents } = arrays;
  require(levels.every((level) => level >= 0 && level <= 2), "a level out of range");
  require(parents.every((parent) => parent >= -1 && parent < rows), "a parent out of range");
  require(parentsEnd(parents), "a row that is a part of itself");
  const isEvidence = (count) => Number.isFinite(count) && count >= 0;
  require(arrays["codebook.counts"].every(isEvidence), "evidence out of range");
  for (const name of Object.keys(arrays).filter((one) => one.startsWith("codebook.space."))) {
    require(haveLength(arrays[name], rows), `a row of ${name} is not of length 1`);
  }
}

/** Whether every chain of parents ends: pointers double, so few steps reach the end. */
function parentsEnd(parents) {
  let ahead = parents;
  for (let steps = 1; steps <= 2 * parents.length; steps *= 2) {
    ahead = ahead.map((parent) => (parent < 0 ? -1 : ahead[parent]));
  }
  return ahead.every((parent) => parent === -1);
}

/** Whether rows of half floats are of length 1, or 0. */
function haveLength(values, rows) {
  const width = values.length / rows;
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += half(values[row * width + i]) ** 2;
    if (!(Math.abs(Math.sqrt(sum) - 1) < ROUNDED || sum === 0)) return false;
  }
  return true;
}

/** A half float by its bits (IEEE 754, binary16). */
function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}
