"""Measures what the look for bad tasks costs a meta-step.

    python -m benchmarks.guard              # W1-1 and W2-1
    python -m benchmarks.guard --workloads W1-1 --pairs 400

Three equal learners take turns in one process, a call of their train function at a
time, as in `fit`: one that looks at its numbers, and two that do not. The time of a
call, over that of the learner without a look that ran beside it, gives a ratio; the
table has the median of all ratios with its 95% interval (of order statistics). The
ratio of the two learners that do the same shows what such a measurement can see.
Times are processor seconds, which other processes disturb less than seconds of the
clock.
"""

from __future__ import annotations

import argparse
import math
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

# Meta-steps of the first `fit`: from 1,000 on, XLA compiles where that pays.
FIRST = 1000


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


def call_of(workload: str, learner: type[mk.MAML]) -> tuple[Callable[[], Any], int]:
    """One call of the train function that `fit` uses, and its meta-steps."""
    keras.utils.set_random_seed(0)
    peer = Fit(WORKLOADS[workload], {})
    plain = peer.maml
    estimator = Unlooked() if learner is Unguarded else mk.Backprop()
    maml = learner(plain.model, plain.inner, meta_gradient=estimator, seed=0)
    maml.compile(keras.optimizers.Adam(1e-3))
    small = WORKLOADS[workload].network.kind != "conv"
    maml.fit(peer.dataset, steps_per_epoch=FIRST if small else 1, verbose=0)
    steps = maml.steps_per_execution
    batches = iter(stacked(peer.dataset, steps) if maml._fuses else peer.dataset)
    return lambda: maml.train_function(batches), steps


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


def main() -> None:
    """Prints a row for each workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=["W1-1", "W2-1"])
    parser.add_argument("--pairs", type=int, default=100)
    options = parser.parse_args()
    # ruff: noqa: T201
    print("| workload | a meta-step, ms | with / without a look | without / without |")
    print("|---|---|---|---|")
    for workload in options.workloads:
        made = [call_of(workload, kind) for kind in (mk.MAML, Unguarded, Unguarded)]
        calls, steps = [call for call, _ in made], made[0][1]
        rounds = []
        for index in range(options.pairs):
            # Every other round runs backwards, so that no learner is always first.
            order = (0, 1, 2) if index % 2 else (2, 1, 0)
            times = {position: seconds(calls[position]) for position in order}
            rounds.append([times[position] for position in range(3)])
        guarded = [looking / beside for looking, beside, _ in rounds]
        equal = [again / beside for _, beside, again in rounds]
        each = statistics.median(beside for _, beside, _ in rounds) / steps
        print(
            f"| {workload} | {1e3 * each:.3g} | {_shown(guarded)} | {_shown(equal)} |"
        )


def _shown(ratios: list[float]) -> str:
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
