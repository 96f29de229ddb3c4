// Questions to the map: what to type, what is found, and which Gaussians that is.

import { similarity, toWorld } from "./geometry.js";
import { runs } from "./runs.js";

const MARGIN = 1e-4; // of the size of a box, for numbers that were rounded on their way

/** Marks the Gaussians of hits: those that the server names, else by box, instance and name. */
export class Marks {
  #tests = [];

  constructor(replica, splats) {
    Object.assign(this, { replica, splats });
  }

  /** Mark what these hits are of, and nothing else. */
  show(hits) {
    this.#tests = hits.map((hit) => ({ ...hit, box: wider(hit.minimum, hit.maximum) }));
    this.splats.marking = hits.length > 0;
    if (hits.every((hit) => hit.gids !== undefined)) this.#markNamed(hits);
    else this.update(null);
    this.splats.touch(null);
  }

  #markNamed(hits) {
    const { replica, splats } = this;
    splats.marks.fill(0);
    for (const { gids, count } of hits) {
      for (const [start, end] of runs(gids, count)) {
        for (let place = start; place < Math.min(end, replica.top); place++) {
          splats.marks[place] = replica.present[place];
        }
      }
    }
  }

  /** Look again at places that changed, null for all. How many of them are marked. */
  update(places) {
    const { replica, splats } = this;
    const submaps = new Map([...replica.poses].map(([submap, pose]) => [submap, similarity(pose)]));
    const byInstance = new Map();
    for (const test of this.#tests) {
      byInstance.set(test.instance, [...(byInstance.get(test.instance) ?? []), test]);
    }
    const mark = (place) => {
      const tests = replica.present[place] ? byInstance.get(replica.words.i32[8 * place + 7]) : null;
      splats.marks[place] = Number(Boolean(tests?.some((test) => this.#is(place, test, submaps))));
    };
    if (places) places.forEach(mark);
    else for (let place = 0; place < replica.top; place++) mark(place);
  }

  /** How many Gaussians are marked. */
  get count() {
    return this.splats.marks.reduce((sum, mark) => sum + mark, 0);
  }

  /** Inside the box of a hit and of its instance; without instance, of a name that it has. */
  #is(place, { box, name, instance }, submaps) {
    const { words, ids, names } = this.replica;
    const mean = [...words.f32.subarray(8 * place, 8 * place + 3)];
    const point = toWorld(submaps.get(words.u16[16 * place + 11]), mean);
    if (!point.every((value, i) => value >= box[0][i] && value <= box[1][i])) return false;
    if (instance >= 0) return true;
    const own = [...ids.subarray(4 * place, 4 * place + 4)].map((id) => names[id]);
    return own.some((one) => one && name.includes(one));
  }
}

function wider(minimum, maximum) {
  const margin = MARGIN * (1 + Math.max(...maximum.map((value, i) => value - minimum[i])));
  return [minimum.map((value) => value - margin), maximum.map((value) => value + margin)];
}

/** Fill a list with buttons for hits; `choose` is called with the one that is clicked. */
export function list(element, hits, choose) {
  element.replaceChildren(
    ...hits.map((hit) => {
      const button = document.createElement("button");
      button.type = "button";
      const [name, facts] = ["span", "small"].map((tag) => document.createElement(tag));
      name.textContent = hit.name;
      const score = `${Math.round(100 * hit.score)} %`;
      facts.textContent = `${score} · ${hit.count.toLocaleString("en")} splats`;
      button.append(name, facts);
      button.addEventListener("click", () => choose(hit));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}
