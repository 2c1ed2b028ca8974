// A canvas to draw on, with pointer or keyboard, and what the network sees of a drawing.

export const SIDE = 28;

/** A drawing surface; `changed()` is called after each line, undo and clear. */
export class Pad {
  constructor(width, label, changed = () => {}) {
    this.element = document.createElement("div");
    this.element.className = "pad";
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.canvas.height = width;
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", label);
    this.element.append(this.canvas);
    this.lines = [];
    this.changed = changed;
    this.#listenToPointer();
    this.#listenToKeys();
    this.#redraw();
  }

  get empty() {
    return this.lines.length === 0;
  }

  undo() {
    this.lines.pop();
    this.#redraw();
    this.changed();
  }

  clear() {
    this.lines = [];
    this.#redraw();
    this.changed();
  }

  /** Draws lines, each a list of points `[x, y]` between 0 and 1. */
  draw(lines) {
    this.lines = lines.map(line => line.map(([x, y]) => [x, y]));
    this.#redraw();
    this.changed();
  }

  /** The drawing as the network sees it, under a transformation of the canvas. */
  pixels(transform = null) {
    const big = surface(this.canvas.width);
    paint(big, this.lines, transform);
    return small(big);
  }

  #redraw() {
    paint(this.canvas, this.lines);
  }

  #listenToPointer() {
    const { canvas } = this;
    let line = null;
    const at = event => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    canvas.addEventListener("pointerdown", event => {
      canvas.setPointerCapture(event.pointerId);
      line = [at(event)];
      this.lines.push(line);
      this.#redraw();
    });
    canvas.addEventListener("pointermove", event => {
      if (!line) return;
      line.push(at(event));
      this.#redraw();
    });
    const end = () => {
      if (!line) return;
      line = null;
      this.changed();
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
  }

  #listenToKeys() {
    const pen = document.createElement("span");
    pen.className = "pen";
    pen.hidden = true;
    this.element.append(pen);
    let [x, y] = [0.5, 0.5];
    let line = null;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const show = () => {
      pen.style.left = `${100 * x}%`;
      pen.style.top = `${100 * y}%`;
      pen.classList.toggle("down", line !== null);
    };
    const lift = () => {
      if (!line) return;
      line = null;
      this.changed();
    };
    this.canvas.addEventListener("focus", () => {
      pen.hidden = !this.canvas.matches(":focus-visible");
      show();
    });
    this.canvas.addEventListener("blur", () => {
      pen.hidden = true;
      lift();
    });
    this.canvas.addEventListener("keydown", event => {
      if (event.key in moves) {
        const [dx, dy] = moves[event.key];
        x = Math.min(1, Math.max(0, x + dx / SIDE));
        y = Math.min(1, Math.max(0, y + dy / SIDE));
        if (line) {
          line.push([x, y]);
          this.#redraw();
        }
      } else if (event.key === " ") {
        if (line) lift();
        else this.lines.push((line = [[x, y]]));
        this.#redraw();
      } else if (event.key === "u" || event.key === "U") {
        line = null;
        this.undo();
      } else if (event.key === "Delete" || event.key === "Backspace") {
        line = null;
        this.clear();
      } else return;
      event.preventDefault();
      pen.hidden = false;
      show();
    });
  }
}

function surface(width) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = width;
  return canvas;
}

/** Paints lines in white on black; the pen is an eleventh of the width, as in Omniglot. */
function paint(canvas, lines, transform = null) {
  const width = canvas.width;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, width);
  if (transform) {
    const { turn, scale, shift } = transform;
    context.translate(width * (0.5 + shift[0]), width * (0.5 + shift[1]));
    context.rotate(turn);
    context.scale(scale, scale);
    context.translate(-width / 2, -width / 2);
  }
  context.strokeStyle = "#fff";
  context.lineWidth = width / 11;
  context.lineCap = context.lineJoin = "round";
  for (const line of lines) {
    context.beginPath();
    context.moveTo(line[0][0] * width, line[0][1] * width);
    for (const [x, y] of line) context.lineTo(x * width, y * width);
    if (line.length === 1) context.lineTo(line[0][0] * width + 0.01, line[0][1] * width);
    context.stroke();
  }
}

/** A canvas as 28 x 28 numbers from 0 to 1: halved in turns, so that each is a mean. */
export function small(canvas) {
  let from = canvas;
  for (let width = canvas.width / 2; width >= SIDE; width /= 2) {
    const half = surface(width);
    half.getContext("2d", { willReadFrequently: true }).drawImage(from, 0, 0, width, width);
    from = half;
  }
  const { data } = from.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, SIDE, SIDE);
  return Float32Array.from({ length: SIDE * SIDE }, (_, i) => data[4 * i] / 255);
}

/** A canvas of 28 x 28 that shows numbers from 0 to 1. */
export function thumbnail(pixels) {
  const canvas = surface(SIDE);
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  pixels.forEach((value, i) => image.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}
