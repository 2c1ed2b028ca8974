"""Measures what the look for bad tasks costs a meta-step.

    python -m benchmarks.guard              # W1-1 and W2-1, ten minutes
    python -m benchmarks.guard --workloads W1-1 --processes 12

In each of several processes four equal learners take turns, for some meta-steps at a
time: two that look at their numbers, and two that do not. Equal learners differ by a
percent by where their tensors lie in memory, so each process makes its learners in
another order, and the median ratio of a process is one measurement. The table has the
mean over processes with its 95% interval (Student's). The ratio of the two learners
that do not look shows what such a measurement can see. Times are processor seconds,
which other processes disturb less than seconds of the clock.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from scipy import stats

import maml_keras as mk
from benchmarks.peers.ours import Fit
from benchmarks.workloads import WORKLOADS
from maml_keras.backend.finite import zero_if_finite
from maml_keras.execution.fused_steps import stacked

# Meta-steps of a turn under XLA, in one program as in `fit`. Short turns, because the
# learners of a round should find the machine in the same state.
STEPS = 20


class Unlooked(mk.Backprop):
    """`Backprop` that does not hand on the adapted weights, which only a look needs."""

    def __call__(self, problem: Any) -> Any:
        return super().__call__(problem)._replace(adapted=())


class Unguarded(mk.MAML):
    """`MAML` that takes every step, whatever its numbers are."""

    def _only_if(self, finite: Any, take: Any, leave: Any) -> dict[str, Any]:
        del finite, leave  # What only they need is left out of the graph.
        logs: dict[str, Any] = take()
        return logs

    def _step_with_health(self, data: Any) -> tuple[Any, Any]:
        return self.train_step(data), tf.constant(True)


class Repeated:
    """An iterator over one element, so that no pipeline runs beside the steps."""

    def __init__(self, dataset: tf.data.Dataset) -> None:
        self.element_spec = dataset.element_spec
        self._element = next(iter(dataset))

    def __iter__(self) -> Repeated:
        return self

    def __next__(self) -> Any:
        return self._element


def turn_of(workload: str, learner: type[mk.MAML]) -> tuple[Callable[[], Any], int]:
    """A call of the train function that `fit` uses, and its meta-steps."""
    keras.utils.set_random_seed(0)
    peer = Fit(WORKLOADS[workload], {})
    model, inner = peer.maml.model, peer.maml.inner
    estimator = Unlooked() if learner is Unguarded else mk.Backprop()
    maml = learner(model, inner, meta_gradient=estimator, seed=0)
    # What `fit` chooses in a long training, but for the length of a turn.
    xla = WORKLOADS[workload].network.kind != "conv"
    steps = STEPS if xla else 1
    maml.compile(
        keras.optimizers.Adam(1e-3), jit_compile=xla, steps_per_execution=steps
    )
    maml.fit(peer.dataset, steps_per_epoch=2 * steps, verbose=0)
    data = Repeated(stacked(peer.dataset, steps) if xla else peer.dataset)
    return lambda: maml.train_function(data), steps


def seconds(call: Callable[[], Any]) -> float:
    """Processor seconds of a call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def rounds_of(turns: list[Callable[[], Any]], minutes: float) -> list[list[float]]:
    """Processor seconds of each turn, in rounds of random order."""
    shuffled, end, found = random.Random(1), time.monotonic() + 60 * minutes, []
    while time.monotonic() < end or len(found) < 10:
        times = [0.0] * len(turns)
        for position in shuffled.sample(range(len(turns)), len(turns)):
            times[position] = seconds(turns[position])
        found.append(times)
    return found


def check_alone(workload: str) -> float:
    """Processor milliseconds of the check of all tasks' adapted weights, at most.

    The products that stand for the adapted weights are in this time, too.
    """
    settings = WORKLOADS[workload]
    weights = Fit(settings, {}).maml.model.trainable_variables

    @tf.function
    def check(factor: Any) -> Any:
        adapted = [[w * (factor + i) for w in weights] for i in range(settings.tasks)]
        return tf.add_n([zero_if_finite(one) for one in adapted])

    def turn() -> Any:
        return check(tf.constant(1.0))

    turn()  # Traced.
    return 1e3 * statistics.median(seconds(turn) for _ in range(100))


def measured(workload: str, seed: int, minutes: float) -> dict[str, float]:
    """The median ratios of this process."""
    kinds: list[type[mk.MAML]] = [mk.MAML, mk.MAML, Unguarded, Unguarded]
    made: list[Any] = [None] * len(kinds)
    for position in random.Random(seed).sample(range(len(kinds)), len(kinds)):
        made[position] = turn_of(workload, kinds[position])
    rounds = rounds_of([turn for turn, _ in made], minutes)
    return {
        "look": statistics.median((a + b) / (c + d) for a, b, c, d in rounds),
        "equal": statistics.median(d / c for _, _, c, d in rounds),
        "ms": 1e3 * statistics.median(c for _, _, c, _ in rounds) / made[0][1],
        "check": check_alone(workload) if made[0][1] == 1 else 0.0,
    }


def main() -> None:
    """Prints a row for each workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=["W1-1", "W2-1"])
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=0.8, help="of a process")
    parser.add_argument("--seed", type=int, help="measure in this process alone")
    options = parser.parse_args()
    # ruff: noqa: T201
    if options.seed is not None:
        for workload in options.workloads:
            found = measured(workload, options.seed, options.minutes)
            print(json.dumps(found))
        return
    print("| workload | meta-step, ms | look / no look | no look / no look | check |")
    print("|---|---|---|---|---|")
    for workload in options.workloads:
        runs = [
            _in_a_process(workload, seed, options.minutes)
            for seed in range(options.processes)
        ]
        look, equal = (_shown([run[k] for run in runs]) for k in ("look", "equal"))
        ms = statistics.median(run["ms"] for run in runs)
        share = statistics.median(run["check"] for run in runs) / ms
        check = f"at most {share:.2%}" if share else "inside XLA"
        print(f"| {workload} | {ms:.3g} | {look} | {equal} | {check} |", flush=True)


def _in_a_process(workload: str, seed: int, minutes: float) -> dict[str, float]:
    call = [sys.executable, "-m", "benchmarks.guard", "--workloads", workload]
    call += ["--seed", str(seed), "--minutes", str(minutes)]
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _shown(ratios: list[float]) -> str:
    mean = statistics.mean(ratios)
    half = stats.t.ppf(0.975, len(ratios) - 1) * stats.sem(ratios)
    return f"{mean:.3f} ({mean - half:.3f} to {mean + half:.3f})"


if __name__ == "__main__":
    main()
