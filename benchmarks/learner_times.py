"""How long files that learn take to adapt, beside TensorFlow, and how large they are.

    python -m benchmarks.learner_times           # writes benchmarks/results/...json
    python -m benchmarks.learner_times --table   # writes the table into docs/howto

Each committed export becomes a file of both formats. In one process and on one thread,
each runtime adapts to the same task and predicts; the calls take turns, so that a busy
machine slows all of them. Times are processor times in milliseconds.
"""

import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.learner_files import write_between

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/learner_times.json"
PAGE = ROOT / "docs/howto/formats.md"
# The shape of the inputs, the number of support examples and of queries, the rate.
EXPORTS: dict[str, tuple[list[int], int, int, float]] = {
    "omniglot": ([28, 28, 1], 5, 5, 0.4),
    "sinusoid": ([1], 10, 10, 0.01),
}
RUNTIMES = {"savedmodel": "TensorFlow", "onnx": "ONNX Runtime", "litert": "LiteRT"}
STEPS = 3
CALLS = 200
WARM = 10


def tasks(name: str) -> dict[str, Any]:
    """Random inputs; class numbers or numbers as targets."""
    shape, support, query, rate = EXPORTS[name]
    generator = np.random.default_rng(0)
    targets = generator.normal(size=[support, 1]).astype("float32")
    return {
        "support_x": generator.uniform(size=[support, *shape]).astype("float32"),
        "support_y": (
            targets if shape == [1] else np.arange(support, dtype="int32") % 5
        ),
        "query_x": generator.uniform(size=[query, *shape]).astype("float32"),
        "steps": np.array(STEPS, "int32"),
        "learning_rate": np.array(rate, "float32"),
    }


def calls(name: str, folder: pathlib.Path) -> tuple[dict[str, Callable[[], Any]], Any]:
    """For each runtime a call that adapts and predicts; and what was converted."""
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    import maml_keras as mk

    export, task = ROOT / "saved_models" / name, tasks(name)
    done: dict[str, Any] = {}
    for kind, suffix in (("onnx", ".onnx"), ("litert", ".tflite")):
        begun = time.process_time()
        path = folder / f"{name}{suffix}"
        done[kind] = mk.convert(export, path, adapt=True, verbose=0)
        seconds = time.process_time() - begun
        done[kind] = {
            "differences": {str(k): d for k, d in done[kind].differences.items()},
            "seconds": round(seconds, 1),
            # Of an ONNX learner, the file of `adapt_and_predict`.
            "bytes": path.stat().st_size,
        }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options)
    interpreter = Interpreter(str(folder / f"{name}.tflite"), num_threads=1)
    signature = interpreter.get_signature_runner("adapt_and_predict")
    saved = tf.saved_model.load(export)
    tensors = [tf.constant(value) for value in task.values()]
    parts = [*export.glob("*.pb"), *(export / "variables").iterdir()]
    done["savedmodel"] = {"bytes": sum(p.stat().st_size for p in parts)}

    def lite() -> Any:
        assert interpreter is not None  # The signature does not keep it alive.
        return signature(**task)["predictions"]

    return {
        "savedmodel": lambda: saved.adapt_and_predict(*tensors).numpy(),
        "onnx": lambda: session.run(["predictions"], task)[0],
        "litert": lite,
    }, done


def measured(name: str) -> dict[str, Any]:
    """Times of a call in milliseconds of processor time, differences and sizes."""
    with tempfile.TemporaryDirectory() as folder:
        run, found = calls(name, pathlib.Path(folder))
        times: dict[str, list[float]] = {kind: [] for kind in run}
        for call in range(WARM + CALLS):
            for kind, ask in run.items():
                begun = time.process_time()
                ask()
                if call >= WARM:
                    times[kind].append(1000 * (time.process_time() - begun))
    for kind, taken in times.items():
        found[kind]["smallest"] = round(min(taken), 2)
        found[kind]["median"] = round(float(np.median(taken)), 2)
    return {kind: found[kind] for kind in RUNTIMES}


def table() -> str:
    """The results as a table of Markdown."""
    lines = [
        "| export | runtime | one call, ms | median | bytes | to convert, s "
        "| difference after 0, 1, 3 steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, kinds in json.loads(RESULTS.read_text("utf-8")).items():
        for kind, row in kinds.items():
            different = [f"{d:.0e}" for d in row.get("differences", {}).values()]
            lines.append(
                f"| {name} | {RUNTIMES[kind]} | {row['smallest']} | {row['median']} "
                f"| {row['bytes']:,} | {row.get('seconds', '')} "
                f"| {', '.join(different)} |"
            )
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measures, or writes the table."""
    if arguments == ["--table"]:
        write_between(PAGE, "times", table())
        return
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    results = {name: measured(name) for name in EXPORTS}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    sys.stdout.write(f"{table()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
