"""Learners that predict each reading of a stream before they learn from the reading."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from online_parts.streams import WINDOW, Streams

import maml_keras as mk


class Steps:
    """Inner steps on many support sets side by side, as one compiled function.

    The steps are `InnerLoop.step`, so for one support set the weights are those of
    `maml.adapt`. They may start from the weights of any network of the same form.

    Args:
        maml: gives the network, the loss, the rule and the weights that adapt.
        count: int, steps in a call.
    """

    def __init__(self, maml: mk.MAML, count: int) -> None:
        self.maml, self.count = maml, count
        # For partial functions TensorFlow does not warn of one trace for each shape.
        self._adapted, self._answers = (
            tf.function(
                functools.partial(function, self), autograph=False, jit_compile=True
            )
            for function in (Steps._adapt, Steps._answer)
        )

    def start(self, weights: list[Any], sets: int) -> list[Any]:
        """The same weights for each support set, `[sets, ...]`."""
        return [tf.repeat(tf.constant(w)[None], sets, axis=0) for w in weights]

    def adapt(self, weights: Any, x: Any, y: Any, there: Any, rate: Any) -> Any:
        """Weights after the steps; a set without examples keeps its weights.

        Args:
            weights: list of tensors `[sets, ...]`.
            x: inputs `[sets, examples, features]`.
            y: targets `[sets, examples, 1]`.
            there: bools `[sets, examples]`, False for padding.
            rate: floats `[sets]`, the rate of each set.
        """
        there, rate = np.asarray(there, "float32"), np.asarray(rate, "float32")
        return self._adapted(weights, x, y, there, rate)

    def answer(self, weights: Any, x: Any) -> Any:
        """Predictions `[sets, examples, 1]`, of each set's own weights."""
        return self._answers(weights, x).numpy()

    def _adapt(self, weights: Any, x: Any, y: Any, there: Any, rate: Any) -> Any:
        learner, inner = self.maml.learner, self.maml.inner

        def of_one(element: Any) -> Any:
            before, rate, *support = element
            how = {"training": False}
            point = inner.start(learner, before, learner.state(), *support, **how)
            how["learning_rate"] = rate
            for k in range(self.count):
                point = inner.step(learner, point, *support, step=k, **how)
            known = tf.reduce_any(support[2] > 0)
            return [tf.where(known, a, b) for a, b in zip(point.weights, before)]

        elements = (weights, rate, x, y, there)
        return tf.vectorized_map(of_one, elements, fallback_to_while_loop=False)

    def _answer(self, weights: Any, x: Any) -> Any:
        learner = self.maml.learner

        def of_one(element: Any) -> Any:
            own, x = element
            return learner(own, learner.state(), x, training=False).predictions

        return tf.vectorized_map(of_one, (weights, x), fallback_to_while_loop=False)


class Borders:
    """Says which readings still count; this class, that all of the window do."""

    def before(self, count: Any, since: Any) -> Any:
        """How many readings count before the next one is predicted, ints `[streams]`.

        Args:
            count: ints `[streams]`, readings that count so far.
            since: ints `[streams]`, the true number, which only an oracle may read.
        """
        return count

    def after(self, count: Any, running: Any, start: Any) -> Any:
        """How many readings count after one was predicted, ints `[streams]`.

        Args:
            count: ints `[streams]`, readings that count so far, with this one.
            running: floats `[streams, readings]`, the learner's errors up to this one.
            start: floats `[streams, readings]`, the errors of the start as it is.
        """
        return count


class Told(Borders):
    """An oracle, which is told a jump before the first reading after the jump."""

    def before(self, count: Any, since: Any) -> Any:
        return np.minimum(count, since)


class Noticed(Borders):
    """A jump is where the learner predicts worse than the start does unadapted.

    `mean of the last k errors > factor * mean of the start's errors on these k`

    Only the last k readings count from there on. All errors are of predictions that
    were made before the reading was learned.

    Args:
        last: int k, or ints `[streams]`.
        factor: float, or floats `[streams]`. A larger factor restarts less often.
    """

    def __init__(self, last: Any, factor: Any) -> None:
        self.last, self.factor = last, factor

    def after(self, count: Any, running: Any, start: Any) -> Any:
        readings = np.arange(running.shape[1])
        recent = readings >= running.shape[1] - np.reshape(self.last, [-1, 1])
        ours, theirs = (np.sum(errors * recent, axis=1) for errors in (running, start))
        anew = (ours > self.factor * theirs) & (count > self.last)
        return np.where(anew, self.last, count)


def described(borders: Borders) -> str:
    """By which readings a jump is noticed; empty for other borders."""
    if not isinstance(borders, Noticed):
        return ""
    return f", noticed by {borders.last}, factor {borders.factor:g}"


class Walk(NamedTuple):
    """How a learner goes along a stream.

    Attributes:
        rate: float, or floats `[streams]`.
        window: int, or ints `[streams]`, the most readings that a step sees.
        goes_on: bool, or bools `[streams]`. True continues from the present weights;
            False adapts the start to the window anew after each reading.
        borders: `Borders`.
    """

    rate: Any
    window: Any
    goes_on: Any
    borders: Borders = Borders()


class Walked(NamedTuple):
    """The result of a walk.

    Attributes:
        errors: floats `[streams, time]`, squared errors of predictions that were made
            before the reading was learned.
        restarts: bools `[streams, time]`, after which readings a learner began anew.
    """

    errors: Any
    restarts: Any


def walk(steps: Steps, start: list[Any], streams: Streams, how: Walk) -> Walked:
    """Predicts each reading, then learns from the reading.

    Args:
        steps: the compiled inner steps.
        start: list of arrays, the weights at the beginning and after a restart.
        streams: the readings.
        how: settings, one for all streams or one for each.
    """
    size, borders = streams.since.shape, how.borders
    rate, window, goes_on = (np.broadcast_to(s, size[:1]) for s in how[:3])
    # The window that ends with reading t begins at place t + 1 of the padded stream.
    x, y = (np.pad(v, [(0, 0), (WINDOW, 0), (0, 0)]) for v in streams[:2])
    new = weights = steps.start(start, size[0])
    of_start = unadapted(steps, start, streams)
    count, errors = np.zeros(size[:1], int), np.zeros(size)
    restarts = np.zeros(size, bool)
    for t in range(size[1]):
        known = borders.before(count, streams.since[:, t])
        weights = _chosen(known < count, new, weights)
        guess = steps.answer(weights, streams.x[:, t, None])[:, 0]
        errors[:, t] = (guess - streams.y[:, t])[:, 0] ** 2

        known = np.minimum(known + 1, WINDOW)
        count = borders.after(known, errors[:, : t + 1], of_start[:, : t + 1])
        restarts[:, t] = count < known
        seen = [v[:, t + 1 : t + 1 + WINDOW] for v in (x, y)]
        there = np.arange(WINDOW) >= WINDOW - np.minimum(count, window)[:, None]
        before = _chosen(goes_on & ~restarts[:, t], weights, new)
        weights = steps.adapt(before, *seen, there, rate)
    return Walked(errors, restarts)


def unadapted(steps: Steps, start: list[Any], streams: Streams) -> Any:
    """The squared errors of a start that never adapts, `[streams, time]`."""
    weights = steps.start(start, len(streams.since))
    return (steps.answer(weights, streams.x) - streams.y)[..., 0] ** 2


def _chosen(which: Any, ones: list[Any], others: list[Any]) -> list[Any]:
    """`ones` where `which` is True, else `others`, stream by stream."""
    if which.all() or not which.any():
        return ones if which.all() else others
    return [
        tf.where(np.reshape(which, [-1, *[1] * (len(a.shape) - 1)]), a, b)
        for a, b in zip(ones, others)
    ]


class Grid(NamedTuple):
    """Settings to choose from; see `Walk` and `Noticed`.

    Attributes:
        rates: floats.
        windows: ints.
        goes_on: bools.
        borders: the class of the borders.
        lasts: ints, arguments of `Noticed` alone.
        factors: floats, arguments of `Noticed` alone.
    """

    rates: tuple[float, ...]
    windows: tuple[int, ...]
    goes_on: tuple[bool, ...]
    borders: Any = Borders
    lasts: tuple[int, ...] = (0,)
    factors: tuple[float, ...] = (0.0,)

    def rows(self) -> list[Any]:
        """All combinations of one setting of each kind."""
        kinds = self.rates, self.windows, self.goes_on, self.lasts, self.factors
        return list(itertools.product(*kinds))

    def walk(self, row: Any) -> Walk:
        """The walk of a row; or of columns, with a setting for each stream."""
        *settings, last, factor = row
        noticed = self.borders is Noticed
        return Walk(*settings, Noticed(last, factor) if noticed else self.borders())


def chosen(
    all_steps: list[Steps], start: list[Any], streams: Streams, grid: Grid
) -> tuple[Steps, Walk]:
    """The steps and the settings with the least mean error on these streams."""
    rows, count = grid.rows(), len(streams.since)
    # Each stream is walked with all settings at once.
    many = streams.times(len(rows))
    columns = [np.tile(np.array(column), count) for column in zip(*rows)]
    tried = []
    for steps in all_steps:
        # A rate that is too large ends in infinity.
        with np.errstate(over="ignore", invalid="ignore"):
            errors = walk(steps, start, many, grid.walk(columns)).errors
        means = errors.reshape([count, len(rows), -1]).mean(axis=(0, 2))
        means = np.where(np.isfinite(means), means, np.inf)
        tried += [(mean, steps, row) for mean, row in zip(means, rows)]
    _, steps, row = min(tried, key=lambda one: one[0])
    return steps, grid.walk(row)
