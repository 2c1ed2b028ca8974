"""Tasks for a model with two weights; their best weights lie around a common point."""

from typing import Any

import keras
import tensorflow as tf

import maml_keras as mk

# Place and push (see `Pieces`) of the tasks in the pictures. The last task is new.
SHOWN = {"T1": (-1.4, 1.9), "T2": (0.0, 1.6), "T3": (1.4, 1.9), "T4": (0.65, 2.4)}


class Pieces(mk.data.TaskFamily):
    """Short pieces of lines: the examples of a task lie around its place c.

    All tasks share a common line. A task lifts the line at its place by the smallest
    possible change of slope and offset: the best weights of a task are
    `common + push * (c, 1) / |(c, 1)|`. The loss is steep in that direction. Across it
    the loss is nearly flat, because the examples lie close together: the loss is a
    long valley.
    """

    common = (5.0, 2.0)

    def sample(self, seed: Any) -> Any:
        """A task with a random place in [-1.5, 1.5] and a random push in [1, 2.5]."""
        place = tf.random.stateless_uniform([], tf.random.fold_in(seed, 1), -1.5, 1.5)
        push = tf.random.stateless_uniform([], tf.random.fold_in(seed, 2), 1.0, 2.5)
        return self.at(place, push, seed)

    def at(self, place: Any, push: Any, seed: Any) -> Any:
        """The task at a place: 20 support and 50 query examples, without noise."""
        x = tf.random.stateless_uniform([70, 1], seed, -0.5, 0.5) + place
        slope, offset = self.best(place, push)
        y = slope * x + offset
        return {"support_x": x[:20], "support_y": y[:20], "query_x": x[20:]}, y[20:]

    def best(self, place: Any, push: Any) -> tuple[Any, Any]:
        """The slope and the offset that fit the task exactly."""
        length = (place**2 + 1.0) ** 0.5
        slope, offset = self.common
        return slope + push * place / length, offset + push / length


def line() -> keras.Model:
    """One `Dense(1)` on one number, with random slope and offset."""
    initializers = [keras.initializers.RandomNormal(stddev=1.0) for _ in range(2)]
    dense = keras.layers.Dense(
        1, kernel_initializer=initializers[0], bias_initializer=initializers[1]
    )
    return keras.Sequential([keras.Input([1]), dense])
