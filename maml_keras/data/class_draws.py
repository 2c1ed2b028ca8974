"""How the classes of a task are drawn from the classes of a pool."""

import abc
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.data.pool import Pool
from maml_keras.data.rankings import ranking, ranking_of


class ClassDraw(abc.ABC):
    """Draws the classes of many tasks."""

    @abc.abstractmethod
    def __call__(self, seed: Any, count: int, ways: int) -> tuple[Any, Any]:
        """Classes `[count, ways]`, and the number of classes to choose from `[count]`.

        If a task has fewer classes to choose from than `ways`, the last places hold any
        classes.
        """

    @abc.abstractmethod
    def parts(self) -> list[Any]:
        """The sets of classes from which tasks come, arrays of class numbers."""

    def sets(self, ways: int, choices: Sequence[int]) -> int:
        """How many sets of `ways` classes there are, class c with `choices[c]` choices.

        The sum over all sets of the product of the choices of their classes.

        >>> from maml_keras.data import from_arrays
        >>> draw = AnyClass(from_arrays(np.arange(3.0), [0, 1, 2]))
        >>> draw.sets(2, [1, 1, 10])
        21
        """
        total = 0
        for part in self.parts():
            # sums[k]: over all sets of k classes so far.
            sums = [1] + [0] * ways
            for c in part:
                for k in range(ways, 0, -1):
                    sums[k] += choices[c] * sums[k - 1]
            total += sums[-1]
        return total


class AnyClass(ClassDraw):
    """All classes of a pool alike."""

    def __init__(self, pool: Pool) -> None:
        self._classes = pool.num_classes

    def __call__(self, seed: Any, count: int, ways: int) -> tuple[Any, Any]:
        classes = ranking(seed, [count, self._classes], ways)
        return classes, tf.fill([count], self._classes)

    def parts(self) -> list[Any]:
        return [np.arange(self._classes)]


class WithinGroup(ClassDraw):
    """All classes of a task from one group, such as an alphabet.

    All groups are equally likely, as in Meta-Dataset.

    Args:
        pool: a pool with groups.
        fewest: int, the fewest classes of a task.

    Raises:
        ValueError: if the pool has no groups, or a group has too few classes.

    Reference: Triantafillou et al., 2020, https://arxiv.org/abs/1903.03096
    """

    def __init__(self, pool: Pool, fewest: int) -> None:
        if pool.groups is None:
            raise ValueError(
                "`within='group'` needs a pool with groups. Received: a pool without. "
                "Pass `groups` to `from_arrays`, the group of each class."
            )
        self._names, numbers, sizes = np.unique(
            pool.groups, return_inverse=True, return_counts=True
        )
        small = int(sizes.argmin())
        if sizes[small] < fewest:
            raise ValueError(
                "`ways` must not exceed the classes of a group. Received: "
                f"ways={fewest}, but group {str(self._names[small])!r} has "
                f"{sizes[small]} classes. Lower `ways`, pass a range such as "
                f"ways=({sizes[small]}, {fewest}), or select the classes of larger "
                "groups with `pool.select(...)`."
            )
        with tf.init_scope(), tf.device("CPU:0"):
            self._of_class = tf.constant(numbers, tf.int32)
            self._sizes = tf.constant(sizes, tf.int32)
        self._numbers = numbers

    def __call__(self, seed: Any, count: int, ways: int) -> tuple[Any, Any]:
        group = tf.random.stateless_uniform(
            [count], tf.random.fold_in(seed, 1), 0, len(self._names), tf.int32
        )
        inside = self._of_class[None] == group[:, None]
        classes = ranking_of(seed, [count, len(self._numbers)], ways, inside)
        return classes, tf.gather(self._sizes, group)

    def parts(self) -> list[Any]:
        return [np.flatnonzero(self._numbers == g) for g in range(len(self._names))]


def class_draw(within: str | None, pool: Pool, fewest: int) -> ClassDraw:
    """The draw for `NWayKShot(within=...)`.

    Raises:
        ValueError: if `within` is neither None nor "group".
    """
    if within is None:
        return AnyClass(pool)
    if within != "group":
        raise ValueError(
            f"`within` must be None or 'group'. Received: within={within!r}."
        )
    return WithinGroup(pool, fewest)


def supports(counts: Any, shots: int) -> list[int]:
    """How many sets of `shots` examples each class has."""
    return [math.comb(n, shots) for n in counts.tolist()]
