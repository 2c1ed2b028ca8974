"""Measures what the look for bad tasks costs a meta-step.

    python -m benchmarks.guard              # W1-1 and W2-1, four minutes
    python -m benchmarks.guard --workloads W1-1 --minutes 10

Four equal learners take turns in one process, for some meta-steps at a time: two that
look at their numbers, and two that do not. The time of both turns with a look, over
that of both without in the same round, gives a ratio: two of each kind, because equal
learners differ by where their tensors lie in memory. The table has the median of all
ratios with its 95% interval (of order statistics). The ratio of the two learners that
do not look shows what such a measurement can see. Times are processor seconds, which
other processes disturb less than seconds of the clock.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

import maml_keras as mk
from benchmarks.peers.ours import Fit
from benchmarks.workloads import WORKLOADS
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


def interval(values: list[float]) -> tuple[float, float]:
    """The 95% interval of the median, of order statistics.

    >>> interval([float(i) for i in range(1, 101)])
    (41.0, 60.0)
    """
    ordered, half = sorted(values), 0.98 * math.sqrt(len(values))
    low = max(0, math.floor(len(values) / 2 - half))
    return ordered[low], ordered[len(values) - 1 - low]


def rounds_of(turns: list[Callable[[], Any]], minutes: float) -> list[list[float]]:
    """Processor seconds of each turn, in rounds of random order."""
    shuffled, end, found = random.Random(0), time.monotonic() + 60 * minutes, []
    while time.monotonic() < end or len(found) < 10:
        times = [0.0] * len(turns)
        for position in shuffled.sample(range(len(turns)), len(turns)):
            times[position] = seconds(turns[position])
        found.append(times)
    return found


def main() -> None:
    """Prints a row for each workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=["W1-1", "W2-1"])
    parser.add_argument("--minutes", type=float, default=2.0, help="of a workload")
    options = parser.parse_args()
    # ruff: noqa: T201
    print("| workload | rounds | meta-step, ms | look / no look | no look / no look |")
    print("|---|---|---|---|---|")
    for workload in options.workloads:
        kinds = mk.MAML, mk.MAML, Unguarded, Unguarded
        made = [turn_of(workload, kind) for kind in kinds]
        rounds = rounds_of([turn for turn, _ in made], options.minutes)
        looking = _shown([(a + b) / (c + d) for a, b, c, d in rounds])
        equal = _shown([d / c for _, _, c, d in rounds])
        each = statistics.median(c for _, _, c, _ in rounds) / made[0][1]
        count = f"{len(rounds):,}"
        print(f"| {workload} | {count} | {1e3 * each:.3g} | {looking} | {equal} |")


def _shown(ratios: list[float]) -> str:
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
