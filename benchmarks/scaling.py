"""Time and memory of a meta-step against tasks, inner steps and parameters.

    python -m benchmarks.scaling        # seven minutes; writes results/scaling.json
                                        # and docs/scaling.png

The network is Omniglot's conv-4 (28x28, stride 2, batch norm), on 5-way 1-shot tasks
with one query a class, second order, with Adam. Every point has a separate process,
whose peak memory is counted from before the model is built. The time is the median of
twenty meta-steps, with the quartiles as a band.
"""

from __future__ import annotations

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).parent
BASE = {"tasks": 16, "steps": 1, "filters": 32, "rematerialize": False}
TASKS = [1, 2, 4, 8, 16, 32, 64, 128]
STEPS = [1, 2, 5, 10, 20]
FILTERS = [8, 16, 32, 64, 128]


def main() -> None:
    """Measures every point, then draws them."""
    points: dict[str, list[dict[str, Any]]] = {
        "tasks": [_apart(tasks=n) for n in TASKS],
        "steps": [_apart(steps=n) for n in STEPS],
        "rematerialized": [_apart(steps=n, rematerialize=True) for n in STEPS],
        "filters": [_apart(filters=n) for n in FILTERS],
    }
    path = ROOT / "results" / "scaling.json"
    path.write_text(json.dumps(points, indent=1) + "\n")
    draw(points, ROOT.parent / "docs" / "scaling.png")


def _apart(**changes: Any) -> dict[str, Any]:
    point = {**BASE, **changes}
    command = [sys.executable, "-m", "benchmarks.scaling", json.dumps(point)]
    done = subprocess.run(
        command, cwd=ROOT.parent, check=True, capture_output=True, text=True
    )
    print(done.stdout.strip(), flush=True)  # noqa: T201
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def measure(point: dict[str, Any]) -> dict[str, Any]:
    """The point with its measured times and memory, and the number of parameters."""
    import keras
    import numpy as np
    import tensorflow as tf

    import maml_keras as mk

    mk.use_one_thread_per_task()
    keras.utils.set_random_seed(0)
    before = _peak_mb()
    model = mk.models.conv4(filters=point["filters"])
    inner = mk.InnerLoop(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        mk.SGD(0.01),
        steps=point["steps"],
        rematerialize=point["rematerialize"],
    )
    maml = mk.MAML(model, inner)
    maml.compile(keras.optimizers.Adam(1e-3))
    rng = np.random.default_rng(0)
    images = rng.random([2, point["tasks"], 5, 28, 28, 1]).astype("float32")
    labels = np.tile(np.arange(5, dtype="int32"), [point["tasks"], 1])
    task = {"support_x": images[0], "support_y": labels, "query_x": images[1]}
    batch = tf.nest.map_structure(tf.constant, (task, labels))
    step = tf.function(maml.train_step)
    times = []
    for _ in range(21):
        begun = time.perf_counter()
        step(batch)["loss"].numpy()
        times.append(time.perf_counter() - begun)
    lower, median, upper = statistics.quantiles(times[1:], n=4)
    return {
        **point,
        "parameters": model.count_params(),
        "ms": 1e3 * median,
        "ms_quartiles": [1e3 * lower, 1e3 * upper],
        "first_seconds": times[0],
        "memory_mb": _peak_mb() - before,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw(points: dict[str, list[dict[str, Any]]], path: pathlib.Path) -> None:
    """Time above memory, for each of the three quantities."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    curves = [
        ("tasks of a batch", [("tasks", "tasks", "")]),
        (
            "inner steps",
            [("steps", "steps", "kept"), ("rematerialized", "steps", "rematerialised")],
        ),
        ("parameters", [("filters", "parameters", "")]),
    ]
    rows = [("ms", "ms a meta-step"), ("memory_mb", "peak memory, MB")]
    figure, axes = pyplot.subplots(2, 3, figsize=(10, 5.5), constrained_layout=True)
    for column, (label, lines) in enumerate(curves):
        for axis, (quantity, title) in zip(axes[:, column], rows):
            for name, key, legend in lines:
                x = [p[key] for p in points[name]]
                y = [p[quantity] for p in points[name]]
                axis.plot(x, y, marker="o", label=legend or None)
                if quantity == "ms":
                    axis.fill_between(
                        x, *zip(*(p["ms_quartiles"] for p in points[name])), alpha=0.3
                    )
            if quantity == "ms" or label == "parameters":
                axis.set_xscale("log", base=2 if label != "parameters" else 10)
            if quantity == "ms":
                axis.set_yscale("log")
            else:
                axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
            if quantity == "ms":
                axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
                axis.yaxis.set_minor_locator(ticker.NullLocator())
            for side in (axis.xaxis, axis.yaxis):
                side.set_major_formatter("{x:,g}")
            axis.xaxis.set_minor_formatter("")
            axis.set(xlabel=label, ylabel=title)
            axis.grid(alpha=0.3)
            if len(lines) > 1:
                axis.legend()
    figure.suptitle(
        "conv-4, 5-way 1-shot, second order: 16 tasks, 1 step, 32 filters; "
        "medians and quartiles of 20 meta-steps"
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(json.loads(sys.argv[1]))))  # noqa: T201
    else:
        main()
