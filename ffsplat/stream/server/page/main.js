// The page: a map that grows, questions to it, and how the server is.

import { Connection } from "./connection.js";
import { control } from "./controls.js";
import { Marks, list } from "./questions.js";
import { Replica, digests } from "./replica.js";
import { View } from "./view.js";

const TOKEN = "ffsplat.token";
const element = (id) => document.getElementById(id);
const count = (value) => value.toLocaleString("en");

const MAX_STATES = 20;

const states = []; // the last ones of the connection
let view = null;
let marks = null;
let asked = null; // the text whose hits are shown
let answeredAt = -1; // the epoch of the map that gave them
let changedAt = 0;

const replica = new Replica((places) => {
  changedAt = performance.now();
  if (!view) return;
  view.changed(places);
  marks.update(places);
  if (asked !== null && replica.number && replica.epoch !== answeredAt) ask(asked);
  status();
});

try {
  view = new View(element("view"), replica);
  marks = new Marks(replica, view.splats);
  control(element("view"), view.camera, () => {
    view.moved();
    showFollowing();
  });
} catch (error) {
  view = null;
  say(error.message);
}

const url = new URL("stream", location.href);
url.protocol = location.protocol === "https:" ? "wss:" : "ws:";

const connection = new Connection(url.href, replica, {
  state: showState,
  health: (message) => {
    element("frames").textContent = `${count(message.processed)} of ${count(message.received)}`;
    const lost = Object.entries(message.dropped).filter(([, frames]) => frames > 0);
    element("frames").title = lost.map(([reason, frames]) => `${reason}: ${frames}`).join(", ");
    element("queued").textContent = count(message.queued);
    showLatency(message.milliseconds ?? {});
    document.body.classList.toggle("degraded", message.degraded);
    status();
  },
  stored: () => sessionStorage.getItem(TOKEN),
  store: (token) =>
    token === null ? sessionStorage.removeItem(TOKEN) : sessionStorage.setItem(TOKEN, token),
});

function showState(name, detail = "") {
  states.push(name);
  states.splice(0, states.length - MAX_STATES);
  document.body.dataset.state = name;
  const words = {
    connecting: "connecting",
    live: "live",
    waiting: "trying again",
    token: "locked",
    stopped: "stopped",
  };
  element("state").textContent = words[name];
  element("state").title = detail;
  element("unlock").hidden = name !== "token";
  element("again").hidden = name !== "stopped";
  status();
  if (name === "token") element("token").focus();
  say(name === "stopped" || name === "waiting" || name === "token" ? detail : "");
}

/** The median of a frame's time from its arrival to its verdict; by stage when pointed at. */
function showLatency(milliseconds) {
  const { total, ...stages } = milliseconds;
  element("latency").textContent = total === undefined ? "–" : `${total.toFixed(0)} ms`;
  const words = Object.entries(stages).map(([stage, time]) => `${stage} ${time.toFixed(1)} ms`);
  element("latency").title = words.join(", ");
}

function status() {
  element("empty").hidden = replica.count > 0 || document.body.dataset.state !== "live";
  element("splats").textContent = count(replica.count);
  element("epoch").textContent = count(replica.epoch);
  const seconds = (performance.now() - changedAt) / 1000;
  element("age").textContent = replica.number === 0 ? "–" : `${seconds.toFixed(0)} s ago`;
}

function say(text, hint = "") {
  element("message").textContent = [text, hint].filter(Boolean).join(" – ");
}

function showFollowing() {
  element("follow").setAttribute("aria-pressed", String(view?.following ?? false));
}

/** Ask the map, and show what it answers. */
async function ask(text) {
  asked = text;
  answeredAt = replica.epoch;
  say("");
  try {
    const { hits } = await connection.ask(text);
    if (asked !== text) return;
    show(hits);
    if (hits.length === 0) say(`No ${text} found.`);
  } catch (error) {
    if (asked !== text) return;
    show([]);
    say(error.message, error.hint);
  }
}

function show(hits) {
  list(element("hits"), hits, (hit) => {
    view?.show(hit.center, hit.minimum, hit.maximum);
    showFollowing();
  });
  marks?.show(hits);
  view?.invalidate();
}

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = element("text").value.trim();
  if (text) ask(text);
  else clear();
});
element("text").addEventListener("input", () => {
  if (element("text").value === "") clear();
});

function clear() {
  asked = null;
  show([]);
  say("");
}

element("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  connection.enter(element("token").value);
  element("token").value = "";
});
element("again").addEventListener("click", () => connection.open());
element("follow").addEventListener("click", () => {
  view?.follow(!view.following);
  showFollowing();
});
element("overview").addEventListener("click", () => {
  view?.overview();
  showFollowing();
});
addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLInputElement;
  if (isTyping || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "f") element("follow").click();
  else if (event.key === "o") element("overview").click();
  else if (event.key === "/") element("text").focus();
  else return;
  event.preventDefault();
});
addEventListener("online", () => connection.open());

setInterval(status, 1000);
showFollowing();
connection.open();

// For tests, and for those who look into it by the console of the browser.
window.ffsplat = { replica, view, marks, connection, states, digests: () => digests(replica) };
