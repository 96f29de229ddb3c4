// Gids of hits under node, as the protocol's text and the Python code have them.

import assert from "node:assert/strict";
import test from "node:test";

const { runs } = await import(`${process.env.PAGE}/runs.js`);

test("the text is that of the specification", () => {
  assert.deepEqual(runs("BQOkAgE=", 4), [[5, 8], [300, 301]]);
  assert.deepEqual(runs("", 0), []);
});

test("what cannot be is refused", () => {
  const refused = [
    [[5], 0], [[5, 0], 0], [[5, 1, 0, 1], 2], [[5, 2], 3], [[5, 0x83], 3],
    [[0x80, 0x80, 0x80, 0x80, 0x80, 1, 1], 1], [[0xff, 0xff, 0xff, 0xff, 15, 2], 2],
  ];
  for (const [bytes, count] of refused) {
    assert.throws(() => runs(btoa(String.fromCharCode(...bytes)), count), { code: 4400 });
  }
  for (const text of ["BQM", "BQM=x", "ü"]) assert.throws(() => runs(text, 3), { code: 4400 });
});
