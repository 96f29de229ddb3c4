// A worker that orders Gaussians from far to near, by counting them in 65536 steps of depth.

const STEPS = 1 << 16;
const ROW = 1024; // an order is as long as whole rows of the table that it goes to

let rows = new Float32Array(0); // x, y, z, submap of each place; x is NaN where there is none
let top = 0;
let submaps = new Float32Array(0); // 16 numbers each: three rows of world_from_submap
let keys = new Uint32Array(0);
const ends = new Uint32Array(STEPS);

onmessage = ({ data }) => {
  if (data.rows) take(data);
  if (data.submaps) submaps = data.submaps;
  if (data.forward) {
    const order = sorted(data.forward, data.near, data.order);
    postMessage(order, [order.order]);
  }
};

/** Take rows of places; all of them where `places` is null. */
function take({ places, rows: some }) {
  if (places === null) {
    rows = some;
    top = some.length / 4;
    return;
  }
  for (let i = 0; i < places.length; i++) {
    const place = places[i];
    if (place >= rows.length / 4) {
      const longer = new Float32Array(8 * place + 4).fill(NaN);
      longer.set(rows);
      rows = longer;
    }
    rows.set(some.subarray(4 * i, 4 * i + 4), 4 * place);
    top = Math.max(top, place + 1);
  }
}

/** Depth along `forward` (four numbers) of points in a submap: four factors each. */
function depthFactors(forward) {
  const factors = new Float32Array(submaps.length / 4);
  for (let i = 0; i < submaps.length / 16; i++) {
    for (let column = 0; column < 4; column++) {
      let sum = column === 3 ? forward[3] : 0;
      for (let row = 0; row < 3; row++) sum += forward[row] * submaps[16 * i + 4 * row + column];
      factors[4 * i + column] = sum;
    }
  }
  return factors;
}

function sorted(forward, near, buffer) {
  if (keys.length < top) keys = new Uint32Array(rows.length / 4);
  const factors = depthFactors(forward);
  const depths = new Float32Array(keys.buffer); // first depths, then steps
  let [nearest, farthest] = [Infinity, 0];
  for (let place = 0; place < top; place++) {
    const at = 4 * place;
    const submap = 4 * rows[at + 3];
    const depth =
      factors[submap] * rows[at] +
      factors[submap + 1] * rows[at + 1] +
      factors[submap + 2] * rows[at + 2] +
      factors[submap + 3];
    depths[place] = depth;
    if (!(depth > near)) continue; // also where there is none
    if (depth < nearest) nearest = depth;
    if (depth > farthest) farthest = depth;
  }
  ends.fill(0);
  const scale = (STEPS - 1) / Math.max(farthest - nearest, 1e-9);
  for (let place = 0; place < top; place++) {
    const depth = depths[place];
    const key = depth > near ? Math.min(STEPS - 1, (scale * (farthest - depth)) | 0) : STEPS;
    keys[place] = key;
    if (key < STEPS) ends[key]++;
  }
  let count = 0;
  for (let key = 0; key < STEPS; key++) {
    const here = ends[key];
    ends[key] = count;
    count += here;
  }
  const fits = buffer && buffer.byteLength >= 4 * count;
  const order = fits ? new Uint32Array(buffer) : new Uint32Array(ROW * Math.ceil(top / ROW));
  for (let place = 0; place < top; place++) {
    if (keys[place] < STEPS) order[ends[keys[place]]++] = place;
  }
  return { order: order.buffer, count };
}
