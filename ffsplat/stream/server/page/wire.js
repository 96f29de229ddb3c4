// Binary messages: header, checksum, compression, parts. PROTOCOL.md, sections 3 and 6.1.

export const DELTA = 2;
export const SNAPSHOT = 3;

const HEADER = 32;
const MAGIC = 0x31534646; // "FFS1", little-endian
const COMPRESSED = 1;
const PART = 12;
const MAX_PART = 1 << 20;
const MAX_DOCUMENT = 1 << 28;
const MAX_RATIO = 1000;

/** What the server sent breaks the protocol; `code` is that of the close frame. */
export class ProtocolError extends Error {
  constructor(message, code = 4400) {
    super(message);
    this.code = code;
  }
}

/** Throws a ProtocolError unless `holds`. */
export function require(holds, problem, code) {
  if (!holds) throw new ProtocolError(problem, code);
}

/** Remainders of each byte, for `crc32`. */
const REMAINDERS = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) {
    remainder = remainder & 1 ? (remainder >>> 1) ^ 0xedb88320 : remainder >>> 1;
  }
  return remainder;
});

/** The CRC-32 of IEEE 802.3 over bytes, as an unsigned number. */
export function crc32(bytes) {
  let sum = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) sum = REMAINDERS[(sum ^ bytes[i]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/**
 * Kind, number, time and inflated payload of a binary message (an ArrayBuffer).
 * null for a message of a kind that a later version may have.
 */
export async function unpack(buffer) {
  require(buffer.byteLength >= HEADER, "a binary message without a header");
  const view = new DataView(buffer);
  require(view.getUint32(0, true) === MAGIC, "another magic", 4409);
  const payload = new Uint8Array(buffer, HEADER);
  const kind = view.getUint8(4);
  const flags = view.getUint8(5);
  require((flags & ~COMPRESSED) === 0, "an unknown flag");
  if (kind !== DELTA && kind !== SNAPSHOT) return null;
  const number = view.getBigUint64(8, true);
  require(view.getUint16(6, true) === 0 && number < 1n << 63n, "a header out of range");
  require(view.getUint32(24, true) === payload.length, "a payload of another size");
  require(payload.length <= MAX_PART, "a part that is too large", 4413);
  require(view.getUint32(28, true) === crc32(payload), "a wrong checksum");
  const message = { kind, number, time: view.getBigInt64(16, true), payload };
  if (flags & COMPRESSED) message.payload = await inflate(payload);
  return message;
}

/** What a compressed payload holds: never more than it states, and that is bounded first. */
async function inflate(payload) {
  require(payload.length > 4, "a compressed payload without its size");
  const size = new DataView(payload.buffer, payload.byteOffset).getUint32(0, true);
  require(size <= Math.min(MAX_PART, MAX_RATIO * payload.length), "inflates to too much", 4413);
  const inflated = new Uint8Array(size);
  const stream = new Blob([payload.subarray(4)]).stream();
  const reader = stream.pipeThrough(new DecompressionStream("deflate")).getReader();
  let filled = 0;
  try {
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      require(filled + step.value.length <= size, "inflates to more than it states");
      inflated.set(step.value, filled);
      filled += step.value.length;
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    if (error instanceof ProtocolError) throw error;
    throw new ProtocolError("a compressed payload is damaged");
  }
  require(filled === size, "inflates to less than it states");
  return inflated;
}

/** Puts the parts of deltas together. */
export class Parts {
  #pieces = [];
  #filled = 0;
  #first = null;

  /** The document that this message completes, as an ArrayBuffer; null until then. */
  add(message) {
    const { payload } = message;
    require(payload.length > PART && payload.length <= MAX_PART, "a part of a wrong size");
    const view = new DataView(payload.buffer, payload.byteOffset);
    const [index, count, size] = [0, 4, 8].map((at) => view.getUint32(at, true));
    require(size <= MAX_DOCUMENT, "a document that is too large", 4413);
    if (index === 0) this.#begin(message, count, size);
    const first = this.#first;
    const follows =
      first !== null &&
      index === this.#pieces.length &&
      index < count &&
      ["kind", "number", "time"].every((name) => message[name] === first[name]) &&
      count === first.count &&
      size === first.size;
    require(follows, `part ${index} of ${count} is out of its order`);
    this.#pieces.push(payload.subarray(PART));
    this.#filled += payload.length - PART;
    const last = index + 1 === count;
    require(last ? this.#filled === size : this.#filled < size, "parts of another size");
    return last ? this.#join() : null;
  }

  #begin({ kind, number, time }, count, size) {
    this.#first = { kind, number, time, count, size };
    this.#pieces = [];
    this.#filled = 0;
  }

  #join() {
    const document = new Uint8Array(this.#filled);
    let at = 0;
    for (const piece of this.#pieces) {
      document.set(piece, at);
      at += piece.length;
    }
    this.#pieces = [];
    this.#first = null;
    return document.buffer;
  }
}
