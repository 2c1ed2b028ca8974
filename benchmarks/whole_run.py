"""Measures the costs of a run beside its meta-steps: start, data, evaluation, memory.

    python -m benchmarks.whole_run      # five minutes; writes results/whole_run.json

The network is Omniglot's conv-4 (28x28, 64 filters) on random images, with 32 tasks of
5-way 1-shot and 15 queries a class, second order, with Adam. For memory the network is
the 84x84 conv-4 with max-pooling, with one task of 5 shots and 15 queries a class. Each
measurement has a separate process; imports do not count. RESULTS.md shows the cost that
`fit` adds to a meta-step: compare "ours" with "bare step".
"""

from __future__ import annotations

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).parent
TASKS, EVALUATED = 32, 600


def main() -> None:
    """Measures every line and prints it."""
    found = {}
    for name in MEASURES:
        command = [sys.executable, "-m", "benchmarks.whole_run", name]
        done = subprocess.run(
            command, cwd=ROOT.parent, check=True, capture_output=True, text=True
        )
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, found[name], flush=True)  # noqa: T201
    path = ROOT / "results" / "whole_run.json"
    path.write_text(json.dumps(found, indent=1) + "\n")


def first_step() -> dict[str, float]:
    """From the call of `fit` to the end of the first meta-step with 5 inner steps."""
    maml, traces = _omniglot(steps=5), []
    step = maml.train_step
    maml.train_step = lambda data: (traces.append(1), step(data))[1]
    batches = _characters().take(1).cache()
    list(batches)  # Fills the cache, so that the start of the pipeline does not count.
    begun = time.perf_counter()
    maml.fit(batches, verbose=0)
    return {"seconds": time.perf_counter() - begun, "traces": len(traces)}


def evaluation() -> dict[str, float]:
    """600 tasks, 15 queries a class, 10 steps, from the call to the figures."""
    import maml_keras as mk

    maml, tasks = _omniglot(steps=1), _characters(batch=20)
    begun = time.perf_counter()
    result = mk.evaluate_episodes(maml, tasks, steps=10, num_tasks=EVALUATED, verbose=0)
    return {"seconds": time.perf_counter() - begun, "tasks": result.num_tasks}


def omniglot_data() -> dict[str, float]:
    """Batches a second that the pipeline delivers and that training consumes."""
    return _supply(_omniglot(steps=1), _characters(), 10)


def sinusoid_data() -> dict[str, float]:
    """As `omniglot_data`, for sinusoids; `fit` takes a hundred batches at a time."""
    import keras

    import maml_keras as mk

    inner = mk.InnerLoop("mse", mk.SGD(0.01))
    maml = mk.MAML(mk.models.mlp(), inner)
    maml.compile(keras.optimizers.Adam(1e-3))
    tasks = mk.data.Sinusoid(shots=10, queries=10)
    return _supply(maml, mk.data.episodes(tasks, batch_size=25, seed=1), 4_000)


def memory(steps: int, rematerialize: bool) -> Callable[[], dict[str, float]]:
    """Peak memory and time of a meta-step of the 84x84 conv-4."""

    def measured() -> dict[str, float]:
        import keras
        import numpy as np
        import tensorflow as tf

        import maml_keras as mk

        before = _peak_mb()
        model = mk.models.conv4(shape=(84, 84, 3), filters=32, max_pool=True)
        inner = mk.InnerLoop(
            _cross_entropy(), mk.SGD(0.01), steps=steps, rematerialize=rematerialize
        )
        maml = mk.MAML(model, inner)
        maml.compile(keras.optimizers.Adam(1e-3))
        rng = np.random.default_rng(0)

        def images(count: int) -> Any:
            return rng.random([1, count, 84, 84, 3]).astype("float32")

        def labels(count: int) -> Any:
            return np.arange(count, dtype="int32")[None] % 5

        task = {
            "support_x": images(25),
            "support_y": labels(25),
            "query_x": images(75),
        }
        batch = tf.nest.map_structure(tf.constant, (task, labels(75)))
        step, times = tf.function(maml.train_step), []
        for _ in range(5):
            begun = time.perf_counter()
            step(batch)["loss"].numpy()
            times.append(time.perf_counter() - begun)
        return {
            "memory_mb": _peak_mb() - before,
            "ms": 1e3 * statistics.median(times[1:]),
            "first_seconds": times[0],
        }

    return measured


MEASURES: dict[str, Callable[[], dict[str, float]]] = {
    "first_step": first_step,
    "evaluation": evaluation,
    "omniglot_data": omniglot_data,
    "sinusoid_data": sinusoid_data,
    **{
        f"memory_{steps}" + ("_rematerialized" * again): memory(steps, again)
        for steps in (5, 20)
        for again in (False, True)
    },
}


def _omniglot(steps: int) -> Any:
    import keras

    import maml_keras as mk

    inner = mk.InnerLoop(_cross_entropy(), mk.SGD(0.4), steps=steps)
    maml = mk.MAML(mk.models.conv4(), inner)
    maml.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
    return maml


def _characters(batch: int = TASKS) -> Any:
    import numpy as np

    import maml_keras as mk

    rng = np.random.default_rng(0)
    drawings = rng.integers(0, 256, [100 * 20, 28, 28, 1], dtype="uint8")
    pool = mk.data.from_arrays(drawings, np.arange(100 * 20) // 20)
    tasks = mk.data.NWayKShot(pool, ways=5, shots=1, queries=15)
    return mk.data.episodes(tasks, batch_size=batch, seed=1)


def _supply(maml: Any, batches: Any, steps: int) -> dict[str, float]:
    maml.fit(batches, steps_per_epoch=steps, verbose=0)  # Traces the step.
    begun = time.perf_counter()
    maml.fit(batches, steps_per_epoch=steps, epochs=2, verbose=0)
    consumed = 2 * steps / (time.perf_counter() - begun)
    delivered, begun = 0, time.perf_counter()
    # Batches are stacked as in a `fit` that runs many meta-steps a call.
    group = 100 if steps > 100 else 1
    for _ in batches.batch(group).take(500):
        delivered += group
    seconds = time.perf_counter() - begun
    return {"consumed_a_second": consumed, "delivered_a_second": delivered / seconds}


def _cross_entropy() -> Any:
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from maml_keras import use_one_thread_per_task

        use_one_thread_per_task()
        print(json.dumps(MEASURES[sys.argv[1]]()))  # noqa: T201
    else:
        main()
