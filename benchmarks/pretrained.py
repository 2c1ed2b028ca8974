"""Time and memory of a meta-step of pretrained networks, in three ways to adapt them.

    python -m benchmarks.pretrained                     # writes results/pretrained.json
    python -m benchmarks.pretrained --networks bert     # measures one network again
    python -m benchmarks.pretrained --report-only       # the table of the results

The networks are the MobileNetV2 of `keras.applications` at 96x96 and a BERT of KerasHub
of the size of its preset `bert_small_en_uncased`, on 16 tokens. Weights and data are
random, because time and memory do not depend on them. A batch has two tasks, 5-way
1-shot with two queries a class. There are three inner steps, second order, `frozen`
batch norm, and Adam. Three ways adapt all weights, the head alone on a frozen body, or
low-rank adapters and the head on a frozen body.

Each way has one process, which waits while the others run. The ways take turns in
slices of `--seconds`. The table has the median over `--rounds` of the median of a
slice, with the smallest and the largest. It is processor time, of all threads together,
which hardly depends on what else the machine does; the results have the time on the
clock, too. The memory is the peak of the process beyond its peak when network and data
were loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import resource
import statistics
import sys
import time
from typing import Any

from benchmarks.process import Process
from benchmarks.worker import serve

RESULTS = pathlib.Path(__file__).parent / "results" / "pretrained.json"
TASKS, CLASSES, QUERIES, STEPS, TOKENS, SEED = 2, 5, 2, 3, 16, 0
TITLES = {"mobilenet": "MobileNetV2", "bert": "BERT, small"}
WAYS = {
    "all": "all weights",
    "adapters": "adapters, rank 4, and the head",
    "head": "the head",
}


def main(arguments: list[str]) -> None:
    """Measures the networks, and prints the table of all results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a slice")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args(arguments)
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    if not options.report_only:
        for network in options.networks:
            found[network] = measured(network, options.rounds, options.seconds)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    sys.stdout.write(f"{table(found)}\n")


def measured(network: str, rounds: int, seconds: float) -> dict[str, Any]:
    """What each way has, takes and needs."""
    with contextlib.ExitStack() as stack:
        cases, rows = {}, {}
        for way in WAYS:
            cases[way] = stack.enter_context(
                Process(
                    *(sys.executable, network, way, {}),
                    limit=3600.0,
                    module="benchmarks.pretrained",
                )
            )
            rows[way] = cases[way].ask("start") | {"ms": [], "processor_ms": []}
        for _ in range(rounds):
            for way, case in cases.items():
                for unit, found in case.ask("slice", seconds).items():
                    rows[way][unit].append(found)
        for way, case in cases.items():
            rows[way]["memory_mb"] = case.ask("memory")
            sys.stdout.write(f"{network}, {way}: {rows[way]}\n")
    return rows


def table(found: dict[str, Any]) -> str:
    """The results as a table of Markdown."""
    lines = [
        "| network | adapts | weights adapted | Adam's state "
        "| processor time of a meta-step | memory beyond loading |",
        "|---|---|---|---|---|---|",
    ]
    for network in filter(found.get, TITLES):
        for way, row in found[network].items():
            lines.append(
                f"| {TITLES[network]} | {WAYS[way]} | {row['adapted']:,} "
                f"| {row['optimizer_kb']:,.0f} KB | {_spread(row['processor_ms'])} "
                f"| {row['memory_mb']:,.0f} MB |"
            )
    return "\n".join(lines)


def _spread(ms: list[float]) -> str:
    return f"{statistics.median(ms):,.0f} ms ({min(ms):,.0f} to {max(ms):,.0f})"


# In a separate process ---------------------------------------------------------------


class Case:
    """A network that is meta-trained in one way; its methods answer commands."""

    def __init__(self, network: str, way: str) -> None:
        import keras
        import tensorflow as tf

        import maml_keras as mk
        from benchmarks import pretrained_networks as networks

        mk.use_one_thread_per_task()
        keras.utils.set_random_seed(SEED)
        model = getattr(networks, network)()
        self.batch = tf.nest.map_structure(tf.constant, tasks(network))
        self.loaded_mb = _peak_mb()
        if way == "adapters":
            model = getattr(networks, f"adapted_{network}")(model)
        elif way == "head":
            for layer in model.layers[:-1]:
                layer.trainable = False
        inner = mk.InnerLoop(
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            mk.SGD(0.01),
            steps=STEPS,
        )
        self.maml = mk.MAML(model, inner, batch_norm="frozen")
        self.maml.compile(keras.optimizers.Adam(1e-4))
        self.maml.optimizer.build(self.maml.trainable_variables)
        self.step = tf.function(self.maml.train_step)

    def start(self) -> dict[str, Any]:
        """Makes the first meta-step, which traces, and counts weights."""
        first, _ = self._timed()
        learner = self.maml.learner
        return {
            "weights": self.maml.model.count_params(),
            "adapted": _size(self.maml.inner.selected(learner, learner.variables)),
            "optimizer_kb": _size(self.maml.optimizer.variables) * 4 / 1024,
            "task_map": str(self.maml.task_map),
            "first_seconds": first / 1e3,
        }

    def slice(self, seconds: float) -> dict[str, float]:
        """Median milliseconds of a meta-step, of at least two."""
        end, times = time.perf_counter() + seconds, []
        while len(times) < 2 or time.perf_counter() < end:
            times.append(self._timed())
        ms, processor_ms = map(statistics.median, zip(*times))
        return {"ms": ms, "processor_ms": processor_ms}

    def memory(self) -> float:
        """Peak memory beyond that of network and data."""
        return _peak_mb() - self.loaded_mb

    def _timed(self) -> tuple[float, float]:
        begun, used = time.perf_counter(), time.process_time()
        float(self.step(self.batch)["loss"])
        seconds = time.perf_counter() - begun, time.process_time() - used
        return 1e3 * seconds[0], 1e3 * seconds[1]


def tasks(network: str) -> tuple[dict[str, Any], Any]:
    """A batch of random tasks."""
    import numpy as np

    rng = np.random.default_rng(SEED)

    def inputs(count: int) -> Any:
        if network == "mobilenet":
            return rng.random([TASKS, count, 96, 96, 3]).astype("float32")
        shape = [TASKS, count, TOKENS]
        return {
            "token_ids": rng.integers(0, 30_522, shape, "int32"),
            "segment_ids": np.zeros(shape, "int32"),
            "padding_mask": np.ones(shape, "int32"),
        }

    def labels(count: int) -> Any:
        return np.tile(np.arange(count, dtype="int32") % CLASSES, [TASKS, 1])

    task = {
        "support_x": inputs(CLASSES),
        "support_y": labels(CLASSES),
        "query_x": inputs(CLASSES * QUERIES),
    }
    return task, labels(CLASSES * QUERIES)


def _size(variables: Any) -> int:
    import numpy as np

    return int(sum(np.prod(v.shape) for v in variables))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    # `Process` passes a network, a way and a variant, which is empty.
    if sys.argv[-1] == "{}":
        serve(lambda: Case(*sys.argv[1:3]))
    else:
        main(sys.argv[1:])
