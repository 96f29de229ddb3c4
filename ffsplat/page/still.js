// A page with one scene that does not change, and answers that were prepared.

import { control } from "./controls.js";
import { readDocument } from "./document.js";
import { add } from "./geometry.js";
import { list } from "./questions.js";
import { Replica } from "./replica.js";
import { View } from "./view.js";

const element = (id) => document.getElementById(id);

/** The bytes of base64 of gzip. */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

let view = null;
const replica = new Replica((places) => view?.changed(places));
let photo = 0; // which camera was shown last; cameras stand in reverse

/** Draw in the colours that the page has now, which follow those of the system. */
function dress() {
  const style = getComputedStyle(document.documentElement);
  const shares = (name) => {
    const bytes = style.getPropertyValue(name).trim().slice(1).match(/../g);
    return bytes.map((byte) => parseInt(byte, 16) / 255);
  };
  view.dress(shares("--ground"), shares("--accent"), shares("--text"));
}

/** Stand where a photo was taken. */
function stand(index) {
  const { cameras, camera, radius } = view;
  if (cameras.length === 0) return;
  photo = (index + cameras.length) % cameras.length;
  const { center, forward } = cameras.at(-1 - photo);
  view.touched = true;
  view.follow(false);
  camera.fly(center, add(center, forward, 0.7 * radius));
  view.invalidate();
}

/** Show the answer to a question, or none. */
async function show(answer) {
  const { splats } = view;
  const bits = answer && new Uint8Array(await unpack(answer.marks));
  splats.marks.forEach((_, place) => {
    splats.marks[place] = bits ? (bits[place >> 3] >> (place & 7)) & 1 : 0;
  });
  splats.marking = Boolean(answer?.hits.length);
  splats.touch(null);
  list(element("hits"), answer?.hits ?? [], (hit) => view.show(hit.center, hit.minimum, hit.maximum));
  element("message").textContent = answer && !answer.hits.length ? `No ${answer.text} found.` : "";
  view.invalidate();
}

/** A button for each question; a second click takes its answer away. */
function offer(answers) {
  const buttons = answers.map((answer) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = answer.text;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const isOn = button.getAttribute("aria-pressed") === "true";
      for (const one of buttons) one.setAttribute("aria-pressed", String(one === button && !isOn));
      show(isOn ? null : answer);
    });
    return button;
  });
  element("questions").replaceChildren(...buttons);
}

try {
  const answers = JSON.parse(element("answers").textContent);
  const scene = readDocument(await unpack(element("scene").textContent), { number: 1n, time: 0n });
  element("scene").remove();
  view = new View(element("view"), replica);
  view.following = false;
  dress();
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", dress);
  control(element("view"), view.camera, () => view.moved());
  replica.restore(scene);
  element("splats").textContent = replica.count.toLocaleString("en");
  element("next").hidden = view.cameras.length === 0;
  if (view.cameras.length) stand(0);
  else view.overview();
  view.camera.land();
  offer(answers);
  element("message").textContent = "";
  window.ffsplat = { replica, view }; // for tests, and for those who look into it
} catch (error) {
  element("message").textContent = error.message;
}

element("next").addEventListener("click", () => stand(photo + 1));
element("overview").addEventListener("click", () => view?.overview());
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "n") element("next").click();
  else if (event.key === "o") element("overview").click();
  else return;
  event.preventDefault();
});
