// A network that learns in the page: two ONNX files and the runtime that runs them.

const RUNTIME = new URL("./runtime/", import.meta.url);
const MODELS = new URL("./models/", import.meta.url);
const WASM = "ort-wasm-simd-threaded.wasm";

/** The bytes of a file; `report(done, size)` is called while they arrive. */
async function bytesOf(url, report) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
  const size = Number(answer.headers.get("Content-Length"));
  const parts = [];
  let done = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done: ended, value } = await reader.read();
    if (ended) break;
    parts.push(value);
    report((done += value.length), size);
  }
  return new Blob(parts);
}

let started;

/** onnxruntime-web on one thread, which needs no special headers; loaded once. */
function runtime(report) {
  started ??= (async () => {
    const [ort, packed] = await Promise.all([
      import(new URL("ort.wasm.min.mjs", RUNTIME)),
      bytesOf(new URL(`${WASM}.gz`, RUNTIME), report),
    ]);
    const unpacked = packed.stream().pipeThrough(new DecompressionStream("gzip"));
    ort.env.wasm.wasmBinary = await new Response(unpacked).arrayBuffer();
    ort.env.wasm.wasmPaths = RUNTIME.href;
    ort.env.wasm.numThreads = 1;
    return ort;
  })();
  started.catch(() => (started = undefined));
  return started;
}

/** The learner of an export: `adapt` gives weights, `predict` answers with weights. */
export class Learner {
  /** Loads the files of `models/NAME`; `report(done, size)` tells the runtime's bytes. */
  static async load(name, report = () => {}) {
    const ort = await runtime(report);
    const read = kind =>
      ort.InferenceSession.create(new URL(`${name}.${kind}.onnx`, MODELS).href, {
        executionProviders: ["wasm"],
      });
    return new Learner(ort, ...(await Promise.all([read("adapt"), read("predict_with")])));
  }

  constructor(ort, adapting, predicting) {
    Object.assign(this, { ort, adapting, predicting });
  }

  /** Examples as one tensor `[examples, ...shape]`. */
  tensor(examples, shape, type = "float32") {
    const kind = type === "int32" ? Int32Array : Float32Array;
    const data = kind.from(examples.flatMap(example => (typeof example === "number" ? example : Array.from(example))));
    return new this.ort.Tensor(type, data, [examples.length, ...shape]);
  }

  /** What gradient steps on a support set lead to: weights, and how many steps it were. */
  async adapt(support_x, support_y, count, rate) {
    const steps = new this.ort.Tensor("int32", Int32Array.of(count), []);
    const learning_rate = new this.ort.Tensor("float32", Float32Array.of(rate), []);
    const weights = await this.adapting.run({ support_x, support_y, steps, learning_rate });
    return { weights, steps };
  }

  /** The network's outputs for inputs `x`, after `adapt`. */
  async predict({ weights, steps }, x) {
    return (await this.predicting.run({ ...weights, steps, x })).predictions;
  }
}

/** A sentence for a reader whose browser could not load or run the network. */
export function excuse(error) {
  const old = typeof WebAssembly === "undefined" || typeof DecompressionStream === "undefined";
  return old
    ? "This browser cannot run the network: it has no WebAssembly or no DecompressionStream. A version from 2023 or later has both."
    : `The network could not be loaded: ${error.message}. The page must come from a web server, with the folders runtime/ and models/ beside it.`;
}
