"""Streams of readings whose underlying wave changes at moments that nobody tells."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import maml_keras as mk

# The chance that the wave jumps before a reading.
CHANGE = 1 / 40
# The ranges of a wave, and of how far its phase drifts from reading to reading.
AMPLITUDE, PHASE, DRIFT = (0.1, 5.0), (0.0, np.pi), (-0.01, 0.01)
X = (-5.0, 5.0)
NOISE = 0.1
# The largest number of earlier readings that a gradient step sees.
WINDOW = 20


class Streams(NamedTuple):
    """Readings `y = A sin(x - phase) + noise` in the order in which they come.

    Attributes:
        x: floats `[streams, time, 1]`.
        y: floats `[streams, time, 1]`.
        since: ints `[streams, time]`, readings since the last jump; 0 for the first
            reading after a jump, and for the first one of the stream.
    """

    x: Any
    y: Any
    since: Any

    def times(self, count: int) -> Streams:
        """Each stream several times: `[streams * count, time, ...]`."""
        return Streams(*(np.repeat(part, count, axis=0) for part in self))


def draw(streams: int, time: int, *, seed: int) -> Streams:
    """Streams with jumps at random moments, and with a drift between the jumps."""
    generator = np.random.default_rng(seed)
    size = [streams, time]
    jumps = generator.random(size) < CHANGE
    moments = np.arange(time)
    # The moment of the last jump; a stream begins with one.
    start = np.maximum.accumulate(np.where(jumps, moments, 0), axis=1)
    since = moments - start
    a, phase, drift, x = (
        generator.uniform(*limits, size) for limits in (AMPLITUDE, PHASE, DRIFT, X)
    )
    # All readings after a jump take the wave that was drawn for the first of them.
    a, phase, drift = (
        np.take_along_axis(drawn, start, axis=1) for drawn in (a, phase, drift)
    )
    y = a * np.sin(x - phase - drift * since) + generator.normal(0, NOISE, size)
    x, y = (values[..., None].astype("float32") for values in (x, y))
    return Streams(x, y, since)


class Windows(mk.data.TaskFamily):
    """Tasks for meta-training: earlier readings of one wave, and the next ones.

    A support set has 1 to `WINDOW` readings, because a stream has few readings of a
    wave at first and more later. Padding has weight zero.

    Args:
        queries: int, how many next readings a task has.
    """

    chunk = 512

    def __init__(self, queries: int = 10) -> None:
        self.queries = queries

    def sample(self, seed: Any) -> Any:
        """One wave: the first of `sample_many(seed, 1)`."""
        return tf.nest.map_structure(lambda t: t[0], self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Any:
        """Many waves at once, which is faster."""
        seeds = tf.unstack(tf.random.split(seed, 6), num=6)
        one, each = [count, 1], [count, WINDOW + self.queries]

        def uniform(stream: int, limits: Any, shape: Any) -> Any:
            return tf.random.stateless_uniform(shape, seeds[stream], *limits)

        a, phase, drift = (
            uniform(stream, limits, one)
            for stream, limits in enumerate([AMPLITUDE, PHASE, DRIFT])
        )
        x = uniform(3, X, each)
        noise = NOISE * tf.random.stateless_normal(each, seeds[4])
        known = tf.random.stateless_uniform(one, seeds[5], 1, WINDOW + 1, tf.int32)
        place = tf.range(WINDOW)[None]
        # The queries come right after the readings that are known.
        next_ones = known + tf.range(self.queries)[None]
        since = tf.concat([tf.repeat(place, count, axis=0), next_ones], axis=1)
        y = a * tf.sin(x - phase - drift * tf.cast(since, tf.float32)) + noise
        x, y = x[..., None], y[..., None]
        task = {
            "support_x": x[:, :WINDOW],
            "support_y": y[:, :WINDOW],
            "support_weight": tf.cast(place < known, tf.float32),
            "query_x": x[:, WINDOW:],
        }
        return task, y[:, WINDOW:]
