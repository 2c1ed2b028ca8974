// Draw five symbols, it learns them: the page's own logic.

import { Learner, excuse } from "./learner.js";
import { Pad, SIDE, small, thumbnail } from "./pad.js";

const WAYS = 5;
const STEPS = 3;
const RATE = 0.4; // The inner rate of the export's card.
const COPIES = 8; // Varied copies of each symbol, for the chart.
const $ = id => document.getElementById(id);

const say = text => ($("said").textContent = text);
const button = (text, act) => {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
};

let learner = null;
let weights = null;

/** One symbol: a pad, and the examples that were put aside before. */
class Symbol5 {
  constructor(number) {
    this.examples = [];
    this.pad = new Pad(112, `Symbol ${number}: draw here`, forget);
    this.element = document.createElement("div");
    this.element.className = "cell";
    this.shown = document.createElement("div");
    this.shown.className = "examples";
    const tools = document.createElement("div");
    tools.className = "tools";
    tools.append(
      button("undo", () => this.pad.undo()),
      button("clear", () => this.clear()),
      button("one more", () => this.putAside()),
    );
    this.element.append(this.pad.element, tools, this.shown);
  }

  /** Keeps the drawing as an example and empties the pad for another one. */
  putAside() {
    if (this.pad.empty) return say("Draw an example first. “One more” then keeps it and empties the box.");
    this.examples.push(this.pad.lines);
    this.shown.append(thumbnail(this.pad.pixels()));
    this.pad.clear();
  }

  clear() {
    this.examples = [];
    this.shown.replaceChildren();
    this.pad.clear();
  }

  /** Every example as the network sees it, under an optional transformation. */
  images(transform = null) {
    const now = this.pad.lines;
    const all = now.length ? [...this.examples, now] : this.examples;
    const spare = new Pad(112, "");
    return all.map(lines => {
      spare.lines = lines;
      return spare.pixels(transform);
    });
  }
}

const symbols = Array.from({ length: WAYS }, (_, i) => new Symbol5(i + 1));
const query = new Pad(224, "Draw one of the five symbols again", () => answer());

/** A changed symbol is not learned yet. */
function forget() {
  weights = null;
  $("after").hidden = true;
  for (const symbol of symbols) symbol.element.classList.remove("named");
}

function images(list) {
  return learner.tensor(list, [SIDE, SIDE, 1]);
}

function probabilities(logits) {
  const top = Math.max(...logits);
  const all = Array.from(logits, value => Math.exp(value - top));
  const sum = all.reduce((a, b) => a + b);
  return all.map(value => value / sum);
}

function winner(values) {
  return values.indexOf(Math.max(...values));
}

/** Repeatable random numbers between -1 and 1 for the varied copies. */
function randoms(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

/** Copies of each symbol, turned, scaled and moved, with their numbers. */
function varied() {
  const draw = randoms(1);
  const found = [];
  symbols.forEach((symbol, label) => {
    for (let i = 0; i < COPIES; i++) {
      const transform = { turn: 0.25 * draw(), scale: 1 + 0.15 * draw(), shift: [0.07 * draw(), 0.07 * draw()] };
      found.push([symbol.images(transform)[0], label]);
    }
  });
  return found;
}

async function share(of, copies) {
  const { data } = await learner.predict(of, images(copies.map(([image]) => image)));
  const right = copies.filter(([, label], i) => winner(data.slice(WAYS * i, WAYS * (i + 1))) === label);
  return right.length / copies.length;
}

function bars(rows) {
  const grid = document.createElement("div");
  grid.className = "bars";
  for (const [name, value] of rows) {
    const label = document.createElement("span");
    label.textContent = name;
    const track = document.createElement("div");
    track.className = "track";
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.style.width = `${100 * value}%`;
    track.append(bar);
    const number = document.createElement("span");
    number.className = "number";
    number.textContent = `${Math.round(100 * value)}%`;
    grid.append(label, track, number);
  }
  return grid;
}

async function load() {
  if (learner) return;
  say("Loading the runtime, once …");
  learner = await Learner.load("omniglot", (done, size) => {
    const of = size ? ` of ${(size / 1e6).toFixed(1)}` : "";
    say(`Loading the runtime, once: ${(done / 1e6).toFixed(1)}${of} MB`);
  });
}

/** Learns the five symbols, and shows what each step brought. */
async function learn() {
  const missing = symbols.findIndex(symbol => symbol.images().length === 0);
  if (missing >= 0) return say(`Box ${missing + 1} is empty: draw a symbol there.`);
  $("learn").disabled = true;
  try {
    await load();
    say("Learning …");
    const examples = symbols.flatMap((symbol, label) => symbol.images().map(image => [image, label]));
    const support_x = images(examples.map(([image]) => image));
    const support_y = learner.tensor(examples.map(([, label]) => label), [], "int32");
    const began = performance.now();
    const learned = await learner.adapt(support_x, support_y, STEPS, RATE);
    const took = performance.now() - began;
    const copies = varied();
    const rows = [];
    for (let steps = 0; steps <= STEPS; steps++) {
      const at = steps === STEPS ? learned : await learner.adapt(support_x, support_y, steps, RATE);
      const name = steps === 0 ? "before learning" : `after step ${steps}`;
      rows.push([name, await share(at, copies)]);
    }
    weights = learned;
    say("");
    $("happened").textContent =
      `${STEPS} gradient steps in your browser, in ${Math.round(took)} ms; nothing left this page. ` +
      `The bars show how many of ${copies.length} varied copies of your drawings (turned, scaled, moved) ` +
      "the network named right. Chance is 20%.";
    $("chart").replaceChildren(bars(rows));
    $("after").hidden = false;
    if (!query.empty) await answer();
  } catch (error) {
    say(excuse(error));
    console.error(error);
  } finally {
    $("learn").disabled = false;
  }
}

/** Names the drawing in the large box. */
async function answer() {
  symbols.forEach(symbol => symbol.element.classList.remove("named"));
  if (!weights || query.empty) return $("answer").replaceChildren();
  return name(query.pixels());
}

async function name(pixels) {
  const began = performance.now();
  const { data } = await learner.predict(weights, images([pixels]));
  const took = performance.now() - began;
  const found = probabilities(data);
  const best = winner(found);
  symbols.forEach((symbol, i) => symbol.element.classList.toggle("named", i === best));
  const heading = document.createElement("p");
  heading.innerHTML = `<b>Symbol ${best + 1}</b><br>${Math.round(100 * found[best])}% sure, in ${Math.round(took)} ms`;
  $("answer").replaceChildren(heading, bars(found.map((value, i) => [`symbol ${i + 1}`, value])));
  return found;
}

$("symbols").append(...symbols.map(symbol => symbol.element));
$("query").append(query.element);
const tools = document.createElement("div");
tools.className = "tools";
tools.append(button("undo", () => query.undo()), button("clear", () => query.clear()));
$("query").after(tools);
$("learn").addEventListener("click", learn);
$("restart").addEventListener("click", () => {
  for (const symbol of symbols) symbol.clear();
  query.clear();
  say("");
});

/** Learns five given drawings and names further ones, each alone: numbers of symbols. */
async function trial({ support, labels, queries }) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 224;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  // Through a canvas, as a reader's drawing.
  const seen = pixels => {
    context.drawImage(thumbnail(Float32Array.from(pixels)), 0, 0, 224, 224);
    return small(canvas);
  };
  const learned = await learner.adapt(
    images(support.map(seen)), learner.tensor(labels, [], "int32"), STEPS, RATE);
  const found = [];
  for (const query of queries)
    found.push(winner((await learner.predict(learned, images([seen(query)]))).data));
  return found;
}

// What a test needs: the same parts that a reader's pointer uses.
window.demo = { trial, symbols, query, learn, answer, name, load, get learner() { return learner; } };
