"""How many classes and examples a task has: always the same, or drawn for each task."""

import abc
from typing import Any, NamedTuple, final

import numpy as np
import tensorflow as tf

from maml_keras.data.pool import Pool
from maml_keras.data.rankings import packed, shuffled
from maml_keras.data.shots_draws import (
    EqualShots,
    ImbalancedShots,
    ShotsDraw,
    whole,
    whole_or_range,
)

# `(low, high)`, both included.
Range = tuple[int, int]


class Part(NamedTuple):
    """The support or query sets of many tasks.

    Attributes:
        rows: int32 `[count, examples]`.
        places: int32 `[count, examples]`, the place of each row's class in its task.
        weight: None, or float32 `[count, examples]`, zero for padding.
    """

    rows: Any
    places: Any
    weight: Any = None


class TaskSizes(abc.ABC):
    """Cuts the rows of the classes of tasks into support and query sets.

    Attributes:
        picks: int, how many rows of each class are cut.
        fewest: int, the fewest classes of a task.
    """

    picks: int
    fewest: int

    @abc.abstractmethod
    def cut(
        self, seeds: list[Any], rows: Any, counts: Any, limit: Any
    ) -> tuple[Part, Part]:
        """Support and query sets.

        Args:
            seeds: three int tensors `[2]`, of the sizes and of the order of both sets.
            rows: int32 `[count, ways, picks]`, rows of each class in random order.
            counts: int32 `[count, ways]`, the examples of each class.
            limit: int32 `[count]`, how many of the classes there are.
        """


@final
class WholeSizes(TaskSizes):
    """The same `shots` and `queries` for each class of each task; no padding."""

    def __init__(self, ways: int, shots: int, queries: int) -> None:
        self.fewest, self.shots, self.picks = ways, shots, shots + queries

    def cut(
        self, seeds: list[Any], rows: Any, counts: Any, limit: Any
    ) -> tuple[Part, Part]:
        return (
            Part(*shuffled(seeds[1], rows[..., : self.shots])),
            Part(*shuffled(seeds[2], rows[..., self.shots :])),
        )


@final
class DrawnSizes(TaskSizes):
    """Sizes that are drawn for each task; sets are padded to the largest.

    The number of classes is uniform between `ways[0]` and `ways[1]`, or the number of
    classes that there are. Each class has `q = min(queries, min_c floor(n_c / 2))`
    queries; `shots` shares out what is left.

    Args:
        counts: int array `[classes]`, the examples of each class of the pool.
        ways: `(fewest, most)`.
        shots: a `ShotsDraw`.
        queries: int.
        halved: bool. False if each class has `queries` examples for queries and enough
            left; then q is `queries`.

    Reference: Triantafillou et al., 2020, https://arxiv.org/abs/1903.03096
    """

    def __init__(
        self,
        counts: Any,
        ways: tuple[int, int],
        shots: ShotsDraw,
        queries: int,
        *,
        halved: bool,
    ) -> None:
        self.fewest, self._ways = ways[0], ways[1]
        if halved:  # The smallest of `fewest` classes can be no larger than this.
            queries = min(queries, int(np.sort(counts // 2)[-self.fewest]))
        self._shots, self._queries, self._halved = shots, queries, halved
        # Another class of a task may have so few examples that q is 1.
        left = counts - (1 if halved else queries)
        self._most = shots.most(left, ways[1])
        self.picks = min(int(counts.max()), self._most[0] + queries)

    def cut(
        self, seeds: list[Any], rows: Any, counts: Any, limit: Any
    ) -> tuple[Part, Part]:
        count = rows.shape[0]
        of_ways, of_shots = tf.unstack(tf.random.split(seeds[0], 2))
        limit = tf.minimum(limit, self._ways)
        keys = tf.random.stateless_uniform([count], of_ways)
        choices = tf.cast(limit - self.fewest + 1, tf.float32)
        # The product may be rounded up to `choices`.
        ways = tf.minimum(self.fewest + tf.cast(keys * choices, tf.int32), limit)
        there = tf.range(self._ways) < ways[:, None]
        queries = tf.fill([count, 1], self._queries)
        if self._halved:
            half = tf.where(there, counts // 2, self._queries)
            queries = tf.reduce_min(half, axis=1, keepdims=True)
            queries = tf.minimum(queries, self._queries)
        left = tf.maximum(counts - queries, 1)
        shots = self._shots(of_shots, counts, left, there)
        place = tf.range(self.picks)
        # The first rows of a class are its queries, the next its support examples.
        is_query = there[..., None] & (place < queries[..., None])
        taken = place < (queries + shots)[..., None]
        is_support = there[..., None] & (place >= queries[..., None]) & taken
        return (
            Part(*packed(seeds[1], rows, is_support, self._most[1])),
            Part(*packed(seeds[2], rows, is_query, self._ways * self._queries)),
        )


def task_sizes(
    pool: Any, ways: int | Range, shots: int | Range | ShotsDraw, queries: int
) -> TaskSizes:
    """The sizes of tasks, after checking that the pool is large enough."""
    if not isinstance(pool, Pool):
        raise ValueError(
            f"`pool` must be a Pool. Received: type {type(pool).__name__}. Make a "
            "pool, e.g. with from_arrays(x, y)."
        )
    fewest, most = whole_or_range("ways", ways, 2)
    queries = whole("queries", queries, 1)
    if not pool.num_classes:
        raise ValueError(
            "`pool` must have classes to draw from. Received: an empty pool. If it "
            "comes from `split_classes`, give this part more than 0 classes."
        )
    if most > pool.num_classes:
        raise ValueError(
            "`ways` must not exceed the number of classes. Received: "
            f"ways={ways}, but the pool has {pool.num_classes} classes. Lower `ways`, "
            "or give this part of the split more classes."
        )
    drawn = isinstance(shots, ShotsDraw)
    low, high = (1, 1) if drawn else whole_or_range("shots", shots, 1)
    smallest = int(np.argmin(pool.counts))
    fixed = not drawn and low == high
    needed = low + queries if fixed else 2
    if needed > pool.counts[smallest]:
        what = "`shots + queries` must fit in the smallest class"
        raise ValueError(
            f"{what if fixed else 'A class must have at least 2 examples'}. Received: "
            f"shots={shots}, queries={queries}, but class "
            f"{pool.class_names[smallest]!r} has {pool.counts[smallest]} examples. "
            "Lower `shots` or `queries`, or drop small classes with "
            f"`pool.drop_smaller_than({needed})`."
        )
    if fixed and fewest == most:
        return WholeSizes(most, low, queries)
    draw = shots if isinstance(shots, ShotsDraw) else EqualShots(low, high)
    if isinstance(draw, ImbalancedShots) and draw.support < most:
        raise ValueError(
            "`support` must be at least the number of classes of a task. Received: "
            f"support={draw.support}, ways={ways}. Raise `support`."
        )
    return DrawnSizes(pool.counts, (fewest, most), draw, queries, halved=not fixed)
