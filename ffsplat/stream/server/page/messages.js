// Text messages of the server, checked. PROTOCOL.md, section 2.

import { ProtocolError, require } from "./wire.js";

const MAX_TEXT = 65536;
const MAX_DEPTH = 8;
const MAX_HITS = 100;

const isText = (value) => typeof value === "string";
const isFlag = (value) => typeof value === "boolean";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isNumber = (value) => Number.isFinite(value);
const isVector = (value) => Array.isArray(value) && value.length === 3 && value.every(isNumber);
const isObject = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isOptional = (test) => (value) => value === undefined || test(value);

const HIT = {
  name: isText,
  instance: (value) => Number.isSafeInteger(value) && value >= -1,
  score: isNumber,
  count: isCount,
  center: isVector,
  minimum: isVector,
  maximum: isVector,
  gids: isOptional(isText),
};

/** The fields that this page reads, by type. Other fields and types may be there. */
const FIELDS = {
  welcome: {
    session: isText,
    map: isText,
    number: isCount,
    resumed: isFlag,
    limits: (value) => isObject(value) && value.idle_seconds > 0,
  },
  hits: {
    id: isCount,
    number: isCount,
    hits: (list) => Array.isArray(list) && list.length <= MAX_HITS && list.every((hit) => fits(hit, HIT)),
  },
  health: {
    received: isCount,
    processed: isCount,
    queued: isCount,
    dropped: (value) => isObject(value) && Object.values(value).every(isCount),
    degraded: isFlag,
    number: isCount,
    epoch: isCount,
    splats: isCount,
    milliseconds: isOptional((value) => isObject(value) && Object.values(value).every(isNumber)),
  },
  error: {
    code: isCount,
    message: isText,
    hint: isOptional(isText),
    retryable: isOptional(isFlag),
    retry_after_ms: isOptional(isCount),
    id: isOptional(isCount),
  },
};

function fits(object, fields) {
  return isObject(object) && Object.entries(fields).every(([name, test]) => test(object[name]));
}

/** The message in a text; null for one of a type that this page does not read. */
export function parse(text) {
  // A character is at least one byte, so what is longer has too many bytes in any case.
  const fitsLimit = text.length <= MAX_TEXT && new TextEncoder().encode(text).length <= MAX_TEXT;
  require(fitsLimit, "a text message that is too long", 4413);
  require(depth(text) <= MAX_DEPTH, "a text message that is nested too deep");
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw new ProtocolError("a text message that is no JSON");
  }
  require(isObject(message) && isText(message.type), "a message without a type");
  if (!Object.hasOwn(FIELDS, message.type)) return null;
  require(fits(message, FIELDS[message.type]), `a ${message.type} out of range`);
  return message;
}

/** Brackets that are open at a time, outside of strings. */
function depth(text) {
  let [open, most] = [0, 0];
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (token === "[" || token === "{") most = Math.max(most, ++open);
    else if (token === "]" || token === "}") open--;
  }
  return most;
}
