"""How many support examples the classes of a task have, if that varies."""

import abc
import math
from typing import Any, final

import numpy as np
import tensorflow as tf


class ShotsDraw(abc.ABC):
    """Draws how many support examples each class of a task has."""

    @abc.abstractmethod
    def __call__(self, seed: Any, counts: Any, left: Any, there: Any) -> Any:
        """Support examples of each class, int32 `[count, ways]`, at least 1.

        Args:
            seed: int tensor `[2]`.
            counts: int32 `[count, ways]`, all examples of each class.
            left: int32 `[count, ways]`, those that are not queries, at least 1.
            there: bool `[count, ways]`, False for classes that a task does not have.
        """

    @abc.abstractmethod
    def most(self, left: Any, ways: int) -> tuple[int, int]:
        """The most support examples of a class, and of a task of `ways` classes.

        Args:
            left: int array `[classes]`, the most that each class of the pool can give.
            ways: int, the most classes of a task.
        """


@final
class EqualShots(ShotsDraw):
    """One number for all classes of a task, uniform between `low` and `high`.

    A smaller class gives all that it has left.
    """

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def __repr__(self) -> str:
        return f"({self.low}, {self.high})"

    def __call__(self, seed: Any, counts: Any, left: Any, there: Any) -> Any:
        count = counts.shape[0]
        shots = tf.random.stateless_uniform(
            [count, 1], seed, self.low, self.high + 1, tf.int32
        )
        return tf.minimum(shots, left)

    def most(self, left: Any, ways: int) -> tuple[int, int]:
        each = np.sort(np.minimum(left, self.high))[::-1]
        return int(each[0]), int(each[:ways].sum())


@final
class ImbalancedShots(ShotsDraw):
    """Support sets of unequal size and unequal classes, as in Meta-Dataset.

    A task of classes C, which keeps q examples of each class c of n_c for queries, has

    `|S| = min(support, sum_c ceil(beta * min(per_class, n_c - q)))`, beta uniform in
    (0, 1],

    and class c gets `k_c = min(floor(R_c * (|S| - |C|)) + 1, n_c - q)`, with
    `R_c = n_c exp(a_c) / sum_c' n_c' exp(a_c')` and a_c uniform in [log 0.5, log 2).

    Args:
        support: int, the largest support set. Support sets are padded to this size, or
            to the most that the pool can give.
        per_class: int, the most that a class adds to the size of the support set.

    Raises:
        ValueError: if an argument is not a positive integer.

    Reference: Triantafillou et al., 2020, https://arxiv.org/abs/1903.03096, section
    3.2.

    >>> ImbalancedShots(support=50)
    ImbalancedShots(support=50, per_class=100)
    """

    def __init__(self, *, support: int = 500, per_class: int = 100) -> None:
        self.support = whole("support", support, 1)
        self.per_class = whole("per_class", per_class, 1)

    def __repr__(self) -> str:
        return f"ImbalancedShots(support={self.support}, per_class={self.per_class})"

    def __call__(self, seed: Any, counts: Any, left: Any, there: Any) -> Any:
        seeds = tf.unstack(tf.random.split(seed, 2))
        present = tf.cast(there, tf.int32)
        # Uniform in [0, 1): the floor plus one is the ceiling of (0, 1].
        beta = tf.random.stateless_uniform([counts.shape[0], 1], seeds[0])
        adds = tf.cast(tf.minimum(left, self.per_class), tf.float32)
        size = tf.reduce_sum((tf.cast(beta * adds, tf.int32) + 1) * present, axis=1)
        size = tf.minimum(size, self.support)
        noise = tf.random.stateless_uniform(
            counts.shape, seeds[1], math.log(0.5), math.log(2.0)
        )
        share = tf.cast(counts * present, tf.float32) * tf.exp(noise)
        share /= tf.reduce_sum(share, axis=1, keepdims=True)
        rest = tf.cast(size - tf.reduce_sum(present, axis=1), tf.float32)
        return tf.minimum(tf.cast(share * rest[:, None], tf.int32) + 1, left)

    def most(self, left: Any, ways: int) -> tuple[int, int]:
        adds = np.sort(np.minimum(left, self.per_class))[::-1]
        size = min(self.support, int(adds[:ways].sum()))
        return min(int(left.max()), size), size


def whole(name: str, value: Any, least: int) -> int:
    """The value as an int.

    Raises:
        ValueError: if it is no integer, or smaller than `least`.
    """
    is_int = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_int or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: "
            f"{value!r}. Pass e.g. {name}=5."
        )
    return int(value)


def whole_or_range(name: str, value: Any, least: int) -> tuple[int, int]:
    """`(low, high)` of an integer or of a pair of integers.

    Raises:
        ValueError: if it is neither, smaller than `least`, or decreasing.
    """
    if not isinstance(value, (tuple, list)):
        number = whole(name, value, least)
        return number, number
    if len(value) != 2 or value[0] > value[1]:
        raise ValueError(
            f"`{name}` must be an integer, or (low, high) with low <= high. Received: "
            f"{value!r}. Pass e.g. {name}=({least}, 5)."
        )
    low, high = (whole(name, v, least) for v in value)
    return low, high
