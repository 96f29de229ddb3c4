// The page's session, in front of a server that each test plays. Run by node --test.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { pathToFileURL } from "node:url";

const { Connection } = await import(pathToFileURL(`${process.env.PAGE}/connection.js`).href);

const LIMITS = { idle_seconds: 30 };
const WELCOME = { type: "welcome", session: "s", map: "m", number: 0, resumed: false, limits: LIMITS };

class Socket {
  static OPEN = 1;
  static all = [];
  readyState = 0;
  sent = [];

  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
    Socket.all.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code, reason) {
    this.closed = { code, reason };
    this.end(code, reason);
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }

  end(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  async say(...messages) {
    for (const message of messages) {
      this.onmessage?.({ data: message instanceof ArrayBuffer ? message : JSON.stringify(message) });
    }
    await settle();
  }
}

/** Let promises that wait go on. */
async function settle() {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

let states, connection, replica, token;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  Socket.all = [];
  states = [];
  token = null;
  globalThis.WebSocket = Socket;
  console.error = () => {};
  replica = { number: 0, cleared: 0, clear() { this.number = 0; this.cleared++; } };
  connection = new Connection("ws://robot/stream", replica, {
    state: (name) => states.push(name),
    health: () => states.push("health"),
    stored: () => token,
    store: (value) => (token = value),
  });
});

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

/** Connect, and be welcomed; the socket. */
async function greet(welcome = WELCOME) {
  connection.open();
  const socket = Socket.all.at(-1);
  socket.open();
  await socket.say(welcome);
  return socket;
}

test("the first message is a hello of a viewer, without a token where there is none", async () => {
  const socket = await greet();
  assert.equal(socket.protocol, "ffsplat.v1");
  assert.deepEqual(socket.sent, [{ type: "hello", role: "viewer", want: ["delta", "health"] }]);
  assert.deepEqual(states, ["connecting", "live"]);
});

test("after a cut it comes back with what it has, soon", async () => {
  const socket = await greet();
  replica.number = 7;
  socket.end(1006);
  await settle();
  assert.equal(states.at(-1), "waiting");
  mock.timers.tick(200);
  Socket.all[1].open();
  assert.deepEqual(Socket.all[1].sent[0].resume_from, { map: "m", number: 7 });
  await Socket.all[1].say({ ...WELCOME, number: 9, resumed: true });
  assert.equal(replica.number, 7);
});

test("a map that cannot be resumed is forgotten", async () => {
  const socket = await greet();
  replica.number = 7;
  socket.end(4503);
  await settle();
  mock.timers.tick(200);
  Socket.all[1].open();
  await Socket.all[1].say({ ...WELCOME, map: "other", number: 3 });
  assert.equal(replica.number, 0);
  Socket.all[1].end(1006);
  await settle();
  mock.timers.tick(400);
  Socket.all[2].open();
  assert.deepEqual(Socket.all[2].sent[0].resume_from, { map: "other", number: 0 });
});

test("a server that is behind what the page has is asked for all", async () => {
  const socket = await greet();
  replica.number = 7;
  socket.end(1006);
  await settle();
  mock.timers.tick(200);
  Socket.all[1].open();
  await Socket.all[1].say({ ...WELCOME, number: 3, resumed: true });
  mock.timers.tick(400);
  Socket.all[2].open();
  assert.equal("resume_from" in Socket.all[2].sent[0], false);
  assert.equal(replica.number, 0);
});

test("waits grow, and never beyond ten seconds", async () => {
  connection.open();
  for (let attempt = 1; attempt <= 12; attempt++) {
    Socket.all.at(-1).end(1006);
    await settle();
    const longest = Math.min(10_000, 100 * 2 ** attempt);
    mock.timers.tick(longest / 2 - 1);
    assert.equal(Socket.all.length, attempt);
    mock.timers.tick(longest / 2 + 1);
    assert.equal(Socket.all.length, attempt + 1);
  }
});

test("it waits as long as the server asks for", async () => {
  connection.open();
  Socket.all[0].open();
  const error = { type: "error", code: 4503, message: "full", retryable: true, retry_after_ms: 3000 };
  await Socket.all[0].say(error);
  Socket.all[0].end(4503);
  await settle();
  mock.timers.tick(2999);
  assert.equal(Socket.all.length, 1);
  mock.timers.tick(1);
  assert.equal(Socket.all.length, 2);
});

test("codes that say never again are believed", async () => {
  for (const code of [1000, 1009, 4400, 4409, 4413]) {
    const socket = await greet();
    socket.end(code);
    await settle();
    assert.equal(states.at(-1), "stopped", String(code));
  }
});

test("a wrong token is forgotten, and the next one is sent", async () => {
  token = "wrong";
  connection.open();
  Socket.all[0].open();
  assert.equal(Socket.all[0].sent[0].token, "wrong");
  Socket.all[0].end(4401);
  await settle();
  assert.equal(states.at(-1), "token");
  assert.equal(token, null);
  connection.enter("right");
  Socket.all[1].open();
  assert.equal(Socket.all[1].sent[0].token, "right");
});

test("a broken map is begun anew three times at most, without resuming", async () => {
  connection.open();
  for (let attempt = 0; attempt < 3; attempt++) {
    assert.notEqual(states.at(-1), "stopped");
    const socket = Socket.all[attempt];
    socket.open();
    assert.equal("resume_from" in socket.sent[0], false);
    await socket.say(WELCOME, new ArrayBuffer(40));
    assert.equal(socket.closed.code, 4409);
    await settle();
    mock.timers.tick(2000);
  }
  assert.equal(states.at(-1), "stopped");
});

test("silence is noticed", async () => {
  let now = 0;
  mock.method(performance, "now", () => now);
  await greet();
  now = 31_000;
  mock.timers.tick(1000);
  await settle();
  assert.equal(states.at(-1), "waiting");
});

test("questions that were open at a cut are asked again", async () => {
  const socket = await greet();
  const answer = connection.ask("chair");
  assert.deepEqual(socket.sent.at(-1), { type: "query", id: 1, text: "chair" });
  socket.end(1006);
  await settle();
  mock.timers.tick(200);
  Socket.all[1].open();
  await Socket.all[1].say({ ...WELCOME, resumed: true });
  assert.deepEqual(Socket.all[1].sent.at(-1), { type: "query", id: 1, text: "chair" });
  await Socket.all[1].say({ type: "hits", id: 1, number: 0, hits: [] });
  assert.deepEqual((await answer).hits, []);
});

test("an error with an id is the answer to that question alone", async () => {
  const socket = await greet();
  const answer = connection.ask("chxir");
  await socket.say({ type: "error", code: 4422, message: "unknown", hint: "chair?", id: 1 });
  await assert.rejects(answer, { message: "unknown", hint: "chair?" });
  assert.equal(states.at(-1), "live");
});

test("questions have a bound, and one that nobody answers ends", async () => {
  await greet();
  const open = [1, 2, 3, 4].map((number) => connection.ask(`${number}`));
  await assert.rejects(connection.ask("5"), /Too many/);
  mock.timers.tick(20_000);
  for (const one of open) await assert.rejects(one, /No answer/);
});

test("messages of later versions are passed over, and broken ones are not", async () => {
  const socket = await greet();
  await socket.say({ type: "later", anything: [1] }, { type: "pose", seq: 1 });
  assert.equal(states.at(-1), "live");
  await socket.say({ type: "health", received: -1 });
  assert.equal(socket.closed.code, 4400);
});
