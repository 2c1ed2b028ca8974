"""Sequences of tasks that one network should learn one after the other.

The tasks are waves, and each input says which task is asked: `[x, one-hot]`, as in the
incremental sine waves of Javed and White, 2019, https://arxiv.org/abs/1905.12588.
Without the one-hot no network could know two waves, because an x has two answers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from online_parts.learners import Steps
from online_parts.streams import AMPLITUDE, PHASE, X

import maml_keras as mk

TASKS, EXAMPLES, QUERIES = 6, 20, 20


class Sequences(NamedTuple):
    """Sequences of tasks, floats `[sequences, tasks, examples, features]`."""

    x: Any
    y: Any
    query_x: Any
    query_y: Any

    def times(self, count: int) -> Sequences:
        """Each sequence several times."""
        return Sequences(*(np.repeat(part, count, axis=0) for part in self))


class Waves(mk.data.TaskFamily):
    """Waves with the one-hot of a task among their inputs.

    Args:
        tasks: int, how many waves a support set holds: 1, with a random one-hot, to
            meta-train for single tasks, or all of a sequence, one after the other.
    """

    chunk = 256

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks

    def sample(self, seed: Any) -> Any:
        """The first of `sample_many(seed, 1)`."""
        return tf.nest.map_structure(lambda t: t[0], self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Any:
        """Many support sets at once, which is faster."""
        seeds = tf.unstack(tf.random.split(seed, 4), num=4)
        one = [count, self.tasks, 1]
        each = [count, self.tasks, EXAMPLES + QUERIES]
        a, phase, x = (
            tf.random.stateless_uniform(shape, seeds[stream], *limits)
            for stream, (shape, limits) in enumerate(
                [(one, AMPLITUDE), (one, PHASE), (each, X)]
            )
        )
        y = a * tf.sin(x - phase)
        # Waves of a sequence have the numbers 0, 1, ..; a single wave any of them.
        first = tf.random.stateless_uniform(one, seeds[3], 0, TASKS, tf.int32)
        number = tf.range(self.tasks)[None, :, None]
        number = first if self.tasks == 1 else tf.repeat(number, count, axis=0)
        which = tf.one_hot(tf.repeat(number, EXAMPLES + QUERIES, axis=2), TASKS)
        x, y = tf.concat([x[..., None], which], axis=-1), y[..., None]

        def joined(values: Any) -> Any:
            rows = self.tasks * values.shape[2]
            return tf.reshape(values, [count, rows, values.shape[3]])

        task = {
            "support_x": joined(x[:, :, :EXAMPLES]),
            "support_y": joined(y[:, :, :EXAMPLES]),
            "query_x": joined(x[:, :, EXAMPLES:]),
        }
        return task, joined(y[:, :, EXAMPLES:])


def draw(count: int, *, seed: int) -> Sequences:
    """Sequences of `TASKS` waves."""
    task, query_y = Waves(TASKS).sample_many([seed, 0], count)
    parts = task["support_x"], task["support_y"], task["query_x"], query_y
    return Sequences(
        *(np.reshape(part, [count, TASKS, -1, part.shape[-1]]) for part in parts)
    )


def learn(
    steps: Steps,
    start: list[Any],
    sequences: Sequences,
    *,
    rate: Any,
    calls: int,
    keep: int = 0,
) -> Any:
    """One network learns the tasks in their order.

    Args:
        steps: the compiled inner steps.
        start: list of arrays, the weights before the first task.
        sequences: the tasks.
        rate: float, or floats `[sequences]`.
        calls: int, how often `steps` is called for a task.
        keep: int, examples of each earlier task that a step sees, too.

    Returns:
        `R`, floats `[sequences, T, T]`: the mean squared error on the queries of task
        j, in row i after learning task i.
    """
    count = len(sequences.x)
    rate = np.broadcast_to(rate, [count])
    weights, rows = steps.start(start, count), []
    for task in range(TASKS):
        x, y = (
            np.concatenate([part[:, task], _flat(part[:, :-1, :keep])], axis=1)
            for part in sequences[:2]
        )
        there = np.repeat(np.arange(TASKS - 1) < task, keep)
        there = np.concatenate([np.ones([EXAMPLES], bool), there])
        there = np.broadcast_to(there, [count, len(there)])
        for _ in range(calls):
            weights = steps.adapt(weights, x, y, there, rate)
        rows.append(errors(steps, weights, sequences))
    return np.stack(rows, axis=1)


def copies(
    steps: Steps, start: list[Any], sequences: Sequences, *, rate: Any, calls: int
) -> Any:
    """A copy of the network for each task, adapted from the same start.

    Returns:
        `R` as `learn` returns it. A task that has not come yet is asked of the start.
    """
    count = len(sequences.x)
    rate = np.broadcast_to(rate, [count])
    there = np.ones([count, EXAMPLES], bool)
    first = steps.start(start, count)
    before, own = errors(steps, first, sequences), []
    for task in range(TASKS):
        weights = first
        for _ in range(calls):
            weights = steps.adapt(
                weights, sequences.x[:, task], sequences.y[:, task], there, rate
            )
        own.append(errors(steps, weights, sequences)[:, task])
    learned = np.tril(np.ones([TASKS, TASKS], bool))
    return np.where(learned, np.stack(own, axis=1)[:, None], before[:, None])


def errors(steps: Steps, weights: list[Any], sequences: Sequences) -> Any:
    """The mean squared error on each task's queries, `[sequences, tasks]`."""
    guess = steps.answer(weights, _flat(sequences.query_x))
    wrong = guess.reshape(sequences.query_y.shape) - sequences.query_y
    return (wrong**2).mean(axis=(2, 3))


def _flat(part: Any) -> Any:
    """Tasks one after the other, `[sequences, tasks * examples, features]`."""
    return part.reshape([len(part), -1, part.shape[-1]])
