// Which Gaussians a hit is of. PROTOCOL.md, section 2.

import { require } from "./wire.js";

const MOST = 2 ** 32;
const MAX_BYTES = 5;

/** The runs [start, end) of gids in a text that tells of `count` of them. */
export function runs(text, count) {
  const numbers = unpack(text);
  require(numbers.length % 2 === 0, "gids that end within a run");
  const found = [];
  let end = 0;
  let total = 0;
  for (let i = 0; i < numbers.length; i += 2) {
    const [gap, length] = [numbers[i], numbers[i + 1]];
    const start = end + gap;
    end = start + length;
    total += length;
    require(length > 0 && (gap > 0 || i === 0) && end <= MOST, "gids that are no runs");
    found.push([start, end]);
  }
  require(total === count, `gids that are not ${count}`);
  return found;
}

/** Numbers of seven bits a byte, the lowest first (LEB128). */
function unpack(text) {
  require(/^[A-Za-z0-9+/]*={0,2}$/.test(text) && text.length % 4 === 0, "gids that are no base64");
  const numbers = [];
  let value = 0;
  let bytes = 0;
  for (const character of atob(text)) {
    const byte = character.charCodeAt(0);
    value += (byte & 127) * 2 ** (7 * bytes);
    bytes += 1;
    require(bytes <= MAX_BYTES, "gids that hold too long a number");
    if (byte < 128) {
      numbers.push(value);
      value = bytes = 0;
    }
  }
  require(bytes === 0, "gids that end within a number");
  return numbers;
}
