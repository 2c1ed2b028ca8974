"""`NWayKShot`: few-shot classification tasks from a pool."""

import copy
import math
from typing import Any, final

import numpy as np
import tensorflow as tf

from maml_keras.data.class_numbers import ClassNumbers
from maml_keras.data.family import Episode, TaskFamily, first_row
from maml_keras.data.pool import Pool
from maml_keras.data.rows import gather, table
from maml_keras.data.seeds import as_seed


@final
class NWayKShot(TaskFamily):
    """N-way K-shot classification.

    A task has `ways` different classes with `shots + queries` different examples each,
    so the support and query set never share an example. All choices are uniform, also
    if classes differ in size. Each episode assigns class numbers at random and
    shuffles both sets, so neither the class nor the position reveals the label.

    Args:
        pool: the classes to draw from.
        ways: int, classes of a task.
        shots: int, support examples per class.
        queries: int, query examples per class.
        rotate_classes: bool, whether to rotate each class of each episode by a random
            multiple of 90 degrees, the same for its support and query examples. Needs
            square images, and four times the memory of the pool.

    Raises:
        ValueError: if the pool is too small, or its examples cannot be rotated.

    >>> from maml_keras.data import from_arrays
    >>> x, y = np.zeros([60, 8, 8, 1], np.uint8), np.arange(60) % 6
    >>> tasks = NWayKShot(from_arrays(x, y), ways=5, shots=1, queries=3)
    >>> task, query_y = tasks.sample([0, 1])
    >>> task["support_x"].shape, sorted(query_y.numpy().tolist())[:4]
    (TensorShape([5, 8, 8, 1]), [0, 0, 0, 1])
    """

    def __init__(
        self,
        pool: Pool,
        *,
        ways: int,
        shots: int,
        queries: int,
        rotate_classes: bool = False,
    ) -> None:
        _check(pool, ways, shots, queries)
        self.pool = pool
        self.ways = ways
        self.shots = shots
        self.queries = queries
        self.rotate_classes = rotate_classes
        self._table = table(pool.examples, rotations=rotate_classes)
        with tf.init_scope(), tf.device("CPU:0"):
            self._counts = tf.constant(pool.counts, tf.int32)
            self._offsets = tf.constant(pool.offsets, tf.int32)
        self._largest = int(pool.counts.max())
        self._class_of_row: Any = None

    def __repr__(self) -> str:
        return (
            f"NWayKShot({self.pool!r}, ways={self.ways}, shots={self.shots}, "
            f"queries={self.queries}, rotate_classes={self.rotate_classes})"
        )

    def resized(self, *, shots: int, queries: int) -> "NWayKShot":
        """A family with the same classes, for tasks of another size.

        Both families share the examples in memory.

        Args:
            shots: int, support examples per class.
            queries: int, query examples per class.

        Raises:
            ValueError: if a class has too few examples.
        """
        _check(self.pool, self.ways, shots, queries)
        other = copy.copy(self)
        other.shots, other.queries = shots, queries
        return other

    def class_numbers(self) -> ClassNumbers:
        """The same tasks with labels that mean the same class in every task.

        Label c is the class `pool.class_names[c]`. With `rotate_classes`, a class that
        is rotated r times has the label `r * pool.num_classes + c`.

        >>> from maml_keras.data import from_arrays
        >>> pool = from_arrays(np.arange(6.0), [0, 0, 1, 1, 2, 2])
        >>> tasks, count = NWayKShot(pool, ways=2, shots=1, queries=1).class_numbers()
        >>> task, _ = tasks.sample([0, 1])
        >>> x, y = (task[key].numpy() for key in ("support_x", "support_y"))
        >>> count, bool((x // 2 == y).all())
        (3, True)
        """
        turns, classes = 4 if self.rotate_classes else 1, self.pool.num_classes
        rows = np.repeat(np.arange(classes, dtype=np.int32), self.pool.counts)
        other = copy.copy(self)
        with tf.init_scope(), tf.device("CPU:0"):
            other._class_of_row = tf.constant(
                np.concatenate([rows + turn * classes for turn in range(turns)])
            )
        return ClassNumbers(other, turns * classes)

    def distinct_tasks(self) -> int:
        """How many different support sets there are, apart from the classes' numbers.

        The sum over all sets of `ways` classes of the product of `n choose shots`, with
        n the examples of a class.

        >>> from maml_keras.data import from_arrays
        >>> pool = from_arrays(np.arange(6.0), [0, 0, 1, 1, 2, 2])
        >>> NWayKShot(pool, ways=2, shots=1, queries=1).distinct_tasks()
        12
        """
        turns = 4 if self.rotate_classes else 1
        # sums[k]: over all sets of k classes so far.
        sums = [1] + [0] * self.ways
        for count in self.pool.counts.tolist():
            supports = turns * math.comb(count, self.shots)
            for k in range(self.ways, 0, -1):
                sums[k] += supports * sums[k - 1]
        return sums[-1]

    def sample(self, seed: Any) -> Episode:
        """One task: the first of `sample_many(seed, 1)`."""
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many tasks.

        Args:
            seed: int tensor `[2]`.
            count: int.

        Returns:
            `support_x [count, ways * shots, ...]`, `query_x [count, ways * queries,
            ...]`, and their labels, int32 in `[0, ways)`.
        """
        return self.fill(self.plan(seed, count))

    def plan(self, seed: Any, count: int) -> dict[str, Any]:
        """Labels and row numbers of many tasks; int32 tensors `[count, examples]`."""
        seeds = tf.unstack(tf.random.split(as_seed(seed), 5))
        classes = _ranking(seeds[0], [count, self.pool.num_classes], self.ways)
        picks = _ranking(
            seeds[1],
            [count, self.ways, self._largest],
            self.shots + self.queries,
            sizes=tf.gather(self._counts, classes),
        )
        rows = tf.gather(self._offsets, classes)[..., None] + picks
        if self.rotate_classes:
            turns = tf.random.stateless_uniform(
                [count, self.ways, 1], seeds[2], 0, 4, tf.int32
            )
            rows += turns * self.pool.num_examples
        support = _shuffled(seeds[3], rows[..., : self.shots])
        query = _shuffled(seeds[4], rows[..., self.shots :])
        return {
            "support_rows": support[0],
            "support_y": self._labels(*support),
            "query_rows": query[0],
            "query_y": self._labels(*query),
        }

    def _labels(self, rows: Any, places: Any) -> Any:
        """The labels of rows: a class's place in its task, or its class number."""
        if self._class_of_row is None:
            return places
        return tf.gather(self._class_of_row, rows)

    def fill(self, plan: Any) -> Episode:
        """The tasks of a plan: replaces row numbers by examples."""
        task = {
            "support_x": gather(self._table, plan["support_rows"]),
            "support_y": plan["support_y"],
            "query_x": gather(self._table, plan["query_rows"]),
        }
        return task, plan["query_y"]


def _ranking(seed: Any, shape: list[int], k: int, sizes: Any = None) -> Any:
    """`k` different numbers below `shape[-1]`, or below `sizes`, in random order."""
    # The k largest of independent keys are a uniform ordered sample. The keys are int32
    # of full range: float32 keys have 2**23 values only, and ties favour low numbers.
    keys = tf.random.stateless_uniform(shape, seed, None, None, tf.int32)
    if sizes is not None:
        # If a key ties with a masked key, `top_k` takes the lower, unmasked number.
        exists = tf.range(shape[-1]) < sizes[..., None]
        keys = tf.where(exists, keys, tf.int32.min)
    return tf.math.top_k(keys, k).indices


def _shuffled(seed: Any, rows: Any) -> tuple[Any, Any]:
    """Shuffles rows `[count, ways, k]` into rows and labels `[count, ways * k]`."""
    count, ways, k = rows.shape
    order = _ranking(seed, [count, ways * k], ways * k)
    flat = tf.reshape(rows, [count, ways * k])
    return tf.gather(flat, order, batch_dims=1), order // k


def _check(pool: Any, ways: Any, shots: Any, queries: Any) -> None:
    if not isinstance(pool, Pool):
        raise ValueError(
            f"`pool` must be a Pool. Received: type {type(pool).__name__}. Make a "
            "pool, e.g. with from_arrays(x, y)."
        )
    counts = {"ways": (ways, 2), "shots": (shots, 1), "queries": (queries, 1)}
    for name, (value, least) in counts.items():
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}. Received: "
                f"{value!r}. Pass e.g. {name}=5."
            )
    if not pool.num_classes:
        raise ValueError(
            "`pool` must have classes to draw from. Received: an empty pool. If it "
            "comes from `split_classes`, give this part more than 0 classes."
        )
    if ways > pool.num_classes:
        raise ValueError(
            "`ways` must not exceed the number of classes. Received: "
            f"ways={ways}, but the pool has {pool.num_classes} classes. Lower `ways`, "
            "or give this part of the split more classes."
        )
    smallest = int(np.argmin(pool.counts))
    if shots + queries > pool.counts[smallest]:
        raise ValueError(
            "`shots + queries` must fit in the smallest class. Received: "
            f"shots={shots}, queries={queries}, but class "
            f"{pool.class_names[smallest]!r} has {pool.counts[smallest]} examples. "
            "Lower `shots` or `queries`, or drop small classes with "
            f"`pool.drop_smaller_than({shots + queries})`."
        )
