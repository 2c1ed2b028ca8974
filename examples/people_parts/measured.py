"""Errors of people whom no method has seen, each method at its own best rate."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from people_parts import handwriting

import maml_keras as mk

SHOTS, QUERIES = 5, 9
STEPS = 10
RATES = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
METRIC = "mean_absolute_error"

# For each method: errors of the test people, and what validation people chose.
Found = dict[str, tuple[Any, str]]


def network() -> keras.Model:
    """Two layers of 64 units between the letter and the four edges."""
    return keras.Sequential(
        [
            keras.Input([14, 14]),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(4),
        ]
    )


def everyone(part: handwriting.Part, *, seed: int) -> list[Any]:
    """One episode of each person, in one batch."""
    people = len(np.unique(part.clients))
    tasks = mk.data.Clients(*part, shots=SHOTS, queries=QUERIES, per_round=people)
    return list(
        mk.data.episodes(tasks, batch_size=people, seed=seed, num_episodes=people)
    )


def before(maml: mk.MAML, test: Any) -> Any:
    """Errors of test people in pixels, without adaptation."""
    result = mk.evaluate_episodes(
        maml, test, steps=0, num_tasks=10**6, metric=METRIC, verbose=0
    )
    return handwriting.UNIT * result.per_episode[:, 0]


def at_best(maml: mk.MAML, validation: Any, test: Any) -> tuple[Any, str]:
    """Errors of test people in pixels, at the rate and step validation people like."""
    how = {"steps": STEPS, "num_tasks": 10**6, "metric": METRIC, "verbose": 0}
    curve = mk.rate_curve(maml, validation, rates=RATES, **how)
    means = np.where(curve.diverged > 0, np.inf, curve.means)
    rate, step = np.unravel_index(means.argmin(), means.shape)
    result = mk.evaluate_episodes(maml, test, learning_rate=RATES[rate], **how)
    chosen = f"{step} steps of {RATES[rate]:g}"
    return handwriting.UNIT * result.per_episode[:, step], chosen


def report(found: list[Found], first: str) -> None:
    """Prints each method's error, and how it differs from the first method's.

    Args:
        found: for each seed, the errors by method.
        first: the method to compare with.
    """
    base = np.stack([seed[first][0] for seed in found])
    print("\nmean absolute error of an edge in pixels, 95% intervals for new people")
    print(
        f"and, with several, new seeds; difference to {first!r}, and people who gain\n"
    )
    for name in found[0]:
        errors = np.stack([seed[name][0] for seed in found])
        (mean, width), (gap, half) = map(_interval, (errors, errors - base))
        gains = (errors.mean(axis=0) < base.mean(axis=0)).mean()
        print(
            f"{name:>32}  {mean:.3f} ± {width:.3f}  {gap:+.3f} ± {half:.3f}  "
            f"{gains:4.0%}  "
            f"{', '.join(seed[name][1] for seed in found)}"
        )


def _interval(values: Any) -> tuple[float, float]:
    """Mean and half-width of `[seeds, people]`; of one seed, over people alone."""
    if len(values) > 1:
        found = mk.SeedMean.of(values)
        return found.mean, found.half_width
    half = 1.96 * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean()), float(half)
