// Drag points, watch the curve adapt: the page's own logic.

import { Learner, excuse } from "./learner.js";

const RATE = 0.01; // The inner rate of the export's card.
const GRID = Array.from({ length: 101 }, (_, i) => -5 + i / 10);
const SVG = "http://www.w3.org/2000/svg";
const $ = id => document.getElementById(id);
const say = text => ($("said").textContent = text);

let learner = null;
let points = [];
let running = null;
let waiting = false;

function make(kind, attributes) {
  const made = document.createElementNS(SVG, kind);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const curve = colour =>
  make("polyline", { fill: "none", stroke: colour, "stroke-width": 0.07, "stroke-linejoin": "round" });
const before = curve("#a9b2ba");
const after = curve("#1a7f4b");
const dots = make("g", {});
$("plot").append(
  make("line", { x1: -5.2, x2: 5.2, y1: 0, y2: 0, stroke: "#d5dbe0", "stroke-width": 0.03 }),
  before,
  after,
  dots,
);

/** Ten points of a random sine wave, as the network's training has them. */
function wave() {
  const amplitude = 1 + 3 * Math.random();
  const phase = Math.PI * Math.random();
  points = Array.from({ length: 10 }, (_, i) => {
    const x = -4.5 + i + 0.6 * (Math.random() - 0.5);
    return [x, amplitude * Math.sin(x - phase)];
  });
  show();
}

function show() {
  dots.replaceChildren(
    ...points.map(([x, y], i) => make("circle", { cx: x, cy: -y, r: 0.16, fill: "#24549c", "data-i": i })),
  );
  void fit();
}

const line = values => GRID.map((x, i) => `${x},${-values[i]}`).join(" ");

/** Adapts to the points; while a fit runs, only the newest wish waits. */
function fit() {
  if (!learner) return Promise.resolve();
  waiting = true;
  running ??= follow().finally(() => (running = null));
  return running;
}

async function follow() {
  while (waiting) {
    waiting = false;
    await fitOnce();
  }
}

async function fitOnce() {
  const steps = Number($("steps").value);
  const x = learner.tensor(points.map(([value]) => value), [1]);
  const y = learner.tensor(points.map(([, value]) => value), [1]);
  const grid = learner.tensor(GRID, [1]);
  const shown = points.map(([, value]) => value);
  const began = performance.now();
  const weights = await learner.adapt(x, y, steps, RATE);
  const took = performance.now() - began;
  const fitted = (await learner.predict(weights, grid)).data;
  const at = (await learner.predict(weights, x)).data;
  const start = await learner.adapt(x, y, 0, RATE);
  before.setAttribute("points", line((await learner.predict(start, grid)).data));
  after.setAttribute("points", line(fitted));
  const error = shown.reduce((sum, value, i) => sum + (value - at[i]) ** 2, 0) / shown.length;
  $("count").textContent = steps;
  $("happened").textContent =
    `${steps} gradient steps on ${shown.length} points in ${took.toFixed(1)} ms; ` +
    `mean squared error of the points: ${error.toFixed(3)}. Grey: before the first step.`;
  window.demo.error = error;
}

function place(event) {
  const box = $("plot").getBoundingClientRect();
  const limit = value => Math.min(5, Math.max(-5, value));
  const x = -5.2 + (10.4 * (event.clientX - box.left)) / box.width;
  const y = 5.2 - (10.4 * (event.clientY - box.top)) / box.height;
  return [limit(x), limit(y)];
}

let dragged = null;
$("plot").addEventListener("pointerdown", event => {
  $("plot").setPointerCapture(event.pointerId);
  const at = place(event);
  const near = points.findIndex(([x, y]) => Math.hypot(x - at[0], y - at[1]) < 0.4);
  dragged = near >= 0 ? near : points.push(at) - 1;
  show();
});
$("plot").addEventListener("pointermove", event => {
  if (dragged === null) return;
  points[dragged] = place(event);
  show();
});
for (const kind of ["pointerup", "pointercancel"])
  $("plot").addEventListener(kind, () => (dragged = null));
$("steps").addEventListener("input", fit);
$("wave").addEventListener("click", wave);

async function start() {
  $("start").disabled = true;
  try {
    learner = await Learner.load("sinusoid", (done, size) =>
      say(`Loading the runtime, once: ${(done / 1e6).toFixed(1)}${size ? ` of ${(size / 1e6).toFixed(1)}` : ""} MB`),
    );
    say("");
    $("after").hidden = false;
    $("start").hidden = true;
    wave();
  } catch (error) {
    say(excuse(error));
    console.error(error);
    $("start").disabled = false;
  }
}
$("start").addEventListener("click", start);

window.demo = { start, fit, set: found => { points = found; show(); return fit(); } };
