// A session with the server, begun again after cuts. PROTOCOL.md, sections 1, 2, 6.5 and 7.

import { readDocument } from "./document.js";
import { parse } from "./messages.js";
import { Parts, ProtocolError, SNAPSHOT, require, unpack } from "./wire.js";

const SUBPROTOCOL = "ffsplat.v1";
const GREETING_MS = 15_000;
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 10_000;
const LONGEST_RETRY_MS = 60_000;
const STABLE_MS = 5000; // a session that lasted so long makes the next wait a short one
const ANSWER_MS = 20_000;
const MAX_QUESTIONS = 4;
const MAX_WAITING = 1 << 28; // bytes that arrived and are not applied
const MAX_FAULTS = 3; // maps in a row that were broken

const AGAIN = new Set([4408, 4429, 4503, 1001, 1005, 1006, 1011, 1012, 1013, 1014, 1015]);

/**
 * Keeps a replica like the map of a server.
 *
 * `events` are functions: `state(name, detail)` with "connecting", "live", "waiting", "token" or
 * "stopped"; `health(message)`; `stored()` and `store(token)` for the secret.
 */
export class Connection {
  constructor(url, replica, events) {
    Object.assign(this, { url, replica, events });
  }

  #socket = null;
  #map = null; // the name of the map that the replica has
  #attempts = 0;
  #faults = 0;
  #timer = 0;
  #watch = 0;
  #began = 0;
  #heard = 0;
  #welcomed = false;
  #error = null; // the last one without a question
  #waiting = 0;
  #work = Promise.resolve();
  #parts = new Parts();
  #questions = new Map(); // by id: text, and what to call
  #id = 0;

  /** Connect now, unless there is a connection. */
  open() {
    clearTimeout(this.#timer);
    if (this.#socket) return;
    this.events.state("connecting");
    this.#welcomed = false;
    this.#error = null;
    this.#parts = new Parts();
    this.#began = this.#heard = performance.now();
    const socket = new WebSocket(this.url, SUBPROTOCOL);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#greet();
    socket.onmessage = ({ data }) => this.#take(socket, data);
    socket.onclose = ({ code, reason }) => this.#work.then(() => this.#ended(socket, code, reason));
    this.#guard(socket, GREETING_MS);
  }

  /** Connect again with a secret. */
  enter(token) {
    this.events.store(token);
    this.open();
  }

  /** The answer to a question; an Error with `hint` where there is none. */
  ask(text) {
    if (this.#questions.size >= MAX_QUESTIONS) return Promise.reject(new Error("Too many questions."));
    const id = ++this.#id;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#answer(id, null, new Error("No answer came.")), ANSWER_MS);
      this.#questions.set(id, { text, resolve, reject, timer });
      if (this.#welcomed) this.#send({ type: "query", id, text });
    });
  }

  /** Break the connection off, as a network does, for tests. */
  cut() {
    this.#abandon("cut");
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #greet() {
    const hello = { type: "hello", role: "viewer", want: ["delta", "health"] };
    const token = this.events.stored();
    if (token) hello.token = token;
    if (this.#map !== null) hello.resume_from = { map: this.#map, number: this.replica.number };
    this.#send(hello);
  }

  /** Handle what arrives one by one, in its order. */
  #take(socket, data) {
    if (socket !== this.#socket) return;
    this.#heard = performance.now();
    const size = data.byteLength ?? data.length;
    this.#waiting += size;
    if (this.#waiting > MAX_WAITING) this.#abandon("this page cannot keep up");
    this.#work = this.#work.then(async () => {
      this.#waiting -= size;
      if (socket !== this.#socket || socket.failed) return;
      try {
        if (typeof data === "string") this.#hear(parse(data));
        else await this.#apply(data);
      } catch (error) {
        this.#fail(socket, error);
      }
    });
  }

  #hear(message) {
    if (message === null) return;
    if (message.type === "welcome") this.#welcome(message);
    else if (message.type === "error" && message.id === undefined) this.#error = message;
    else if (message.type === "error") this.#answer(message.id, null, message);
    else {
      require(this.#welcomed, "a message before the welcome");
      if (message.type === "hits") this.#answer(message.id, message);
      else this.events.health(message);
    }
  }

  #welcome({ map, number, resumed, limits }) {
    require(!this.#welcomed, "a second welcome");
    const isBehind = resumed && number < this.replica.number;
    if (!resumed || isBehind) this.replica.clear();
    this.#map = isBehind ? null : map;
    if (isBehind) return this.#abandon("the map began anew");
    this.#welcomed = true;
    this.#guard(this.#socket, 1000 * limits.idle_seconds);
    this.events.state("live");
    for (const [id, { text }] of this.#questions) this.#send({ type: "query", id, text });
  }

  async #apply(data) {
    require(this.#welcomed, "a map before the welcome");
    const message = await unpack(data);
    const document = message && this.#parts.add(message);
    if (!document) return;
    const delta = readDocument(document, message);
    if (message.kind === SNAPSHOT) this.replica.restore(delta);
    else this.replica.apply(delta);
    this.#faults = 0;
  }

  #answer(id, hits, error) {
    const question = this.#questions.get(id);
    if (!question) return;
    this.#questions.delete(id);
    clearTimeout(question.timer);
    if (hits) question.resolve(hits);
    else question.reject(Object.assign(new Error(error.message), { hint: error.hint ?? "" }));
  }

  /** The server broke the protocol, or the map does not fit: begin anew, a few times. */
  #fail(socket, error) {
    console.error(error);
    const code = error instanceof ProtocolError ? error.code : 4400;
    socket.failed = error;
    this.#map = null;
    this.#faults++;
    this.replica.clear();
    socket.close(code, error.message.replace(/[^ -~]/g, "?").slice(0, 120));
  }

  /** Give a connection up without waiting for the other end. */
  #abandon(reason) {
    const socket = this.#socket;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close(1000);
    this.#work.then(() => this.#ended(socket, 1006, reason));
  }

  /** Give a connection up on which nothing comes for so long. */
  #guard(socket, milliseconds) {
    clearInterval(this.#watch);
    this.#watch = setInterval(() => {
      if (socket !== this.#socket) return;
      if (performance.now() - this.#heard > milliseconds) this.#abandon("nothing is heard");
    }, 1000);
  }

  #ended(socket, code, reason) {
    if (socket !== this.#socket) return;
    clearInterval(this.#watch);
    this.#socket = null;
    this.#welcomed = false;
    const why = socket.failed?.message ?? this.#error?.message ?? reason;
    if (socket.failed ? this.#faults < MAX_FAULTS : AGAIN.has(code)) return this.#wait(why);
    if (code === 4401) {
      this.events.store(null);
      return this.events.state("token", why);
    }
    return this.events.state("stopped", `${why || "the server said goodbye"} (${code})`);
  }

  /** Try again after a while: twice as long each time, half of it by chance. */
  #wait(why) {
    const lasted = performance.now() - this.#began > STABLE_MS;
    this.#attempts = lasted ? 0 : Math.min(this.#attempts + 1, 10);
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#attempts);
    const asked = Math.min(LONGEST_RETRY_MS, this.#error?.retry_after_ms ?? 0);
    const wait = Math.max(asked, longest * (0.5 + 0.5 * Math.random()));
    this.#timer = setTimeout(() => this.open(), wait);
    this.events.state("waiting", why);
  }
}
