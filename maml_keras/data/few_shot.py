"""`NWayKShot`: few-shot classification tasks from a pool."""

import copy
from typing import Any, Literal, final

import numpy as np
import tensorflow as tf

from maml_keras.data.class_draws import class_draw, supports
from maml_keras.data.class_numbers import ClassNumbers
from maml_keras.data.family import Episode, TaskFamily, first_row
from maml_keras.data.pool import Pool
from maml_keras.data.rankings import ranking
from maml_keras.data.rows import gather, table
from maml_keras.data.seeds import as_seed
from maml_keras.data.shots_draws import ShotsDraw, whole_or_range
from maml_keras.data.task_sizes import Part, Range, task_sizes


@final
class NWayKShot(TaskFamily):
    """N-way K-shot classification.

    A task has `ways` different classes with `shots + queries` different examples each,
    so the support and query set never share an example. All choices are uniform, also
    if classes differ in size. Each episode assigns class numbers at random and
    shuffles both sets, so neither the class nor the position reveals the label.

    With a range in place of a number, each task draws its own size, by the rules of
    Meta-Dataset: the number of classes is uniform in `ways`; each class gets the same
    number of queries, `min(queries, n_c // 2)` for the smallest class of the task; and
    the number of support examples is uniform in `shots`, where a class that has fewer
    left gives them all. `shots=ImbalancedShots(...)` draws classes of unequal size.
    Such tasks are padded to the largest size. `support_weight` and `query_weight` of
    the task are then 1 for examples and 0 for padding, which counts in no loss, no
    metric and no statistic of batch norm.

    Args:
        pool: the classes to draw from.
        ways: int, classes of a task; or a range `(low, high)`, both included. The
            network needs `high` outputs.
        shots: int, support examples per class; a range; or `ImbalancedShots`.
        queries: int, query examples per class.
        rotate_classes: bool, whether to rotate each class of each episode by a random
            multiple of 90 degrees, the same for its support and query examples. Needs
            square images, and four times the memory of the pool.
        within: `"group"` to draw all classes of a task from one group of the pool, such
            as an alphabet; all groups are equally likely. None for all classes.

    Raises:
        ValueError: if the pool is too small, or its examples cannot be rotated.

    Reference: Triantafillou et al., 2020, https://arxiv.org/abs/1903.03096

    >>> from maml_keras.data import from_arrays
    >>> x, y = np.zeros([60, 8, 8, 1], np.uint8), np.arange(60) % 6
    >>> pool = from_arrays(x, y)
    >>> task, query_y = NWayKShot(pool, ways=5, shots=1, queries=3).sample([0, 1])
    >>> task["support_x"].shape, sorted(query_y.numpy().tolist())[:4]
    (TensorShape([5, 8, 8, 1]), [0, 0, 0, 1])
    >>> tasks = NWayKShot(pool, ways=(2, 5), shots=(1, 3), queries=2)
    >>> task, query_y = tasks.sample_many([0, 1], 100)
    >>> sizes = task["support_weight"].numpy().sum(axis=1).astype(int).tolist()
    >>> task["support_x"].shape[:2], min(sizes), max(sizes)
    (TensorShape([100, 15]), 2, 15)
    """

    def __init__(
        self,
        pool: Pool,
        *,
        ways: int | Range,
        shots: int | Range | ShotsDraw,
        queries: int,
        rotate_classes: bool = False,
        within: Literal["group"] | None = None,
    ) -> None:
        self.sizes = task_sizes(pool, ways, shots, queries)
        self.pool = pool
        self.ways = whole_or_range("ways", ways, 2)[1]
        self.shots = shots
        self.queries = queries
        self.rotate_classes = rotate_classes
        self.within = within
        self.preparation = pool.preparation
        self._asked_ways = ways
        self._classes = class_draw(within, pool, self.sizes.fewest)
        self._table = table(pool.examples, rotations=rotate_classes)
        with tf.init_scope(), tf.device("CPU:0"):
            self._counts = tf.constant(pool.counts, tf.int32)
            self._offsets = tf.constant(pool.offsets, tf.int32)
        self._largest = int(pool.counts.max())
        self._class_of_row: Any = None

    def __repr__(self) -> str:
        within = f", within={self.within!r}" if self.within else ""
        return (
            f"NWayKShot({self.pool!r}, ways={self._asked_ways}, shots={self.shots}, "
            f"queries={self.queries}, rotate_classes={self.rotate_classes}{within})"
        )

    def resized(self, *, shots: int | Range | ShotsDraw, queries: int) -> "NWayKShot":
        """A family with the same classes, for tasks of another size.

        Both families share the examples in memory.

        Args:
            shots: int, support examples per class, or a range or `ImbalancedShots`.
            queries: int, query examples per class.

        Raises:
            ValueError: if a class has too few examples.
        """
        other = copy.copy(self)
        other.sizes = task_sizes(self.pool, self._asked_ways, shots, queries)
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

    def distinct_tasks(self) -> int | None:
        """How many different support sets there are, apart from the classes' numbers.

        The sum over all sets of classes of the product of `n choose shots`, with n the
        examples of a class; None if `shots` is no number.

        >>> from maml_keras.data import from_arrays
        >>> pool = from_arrays(np.arange(6.0), [0, 0, 1, 1, 2, 2])
        >>> NWayKShot(pool, ways=2, shots=1, queries=1).distinct_tasks()
        12
        """
        if not isinstance(self.shots, (int, np.integer)):
            return None
        turns = 4 if self.rotate_classes else 1
        choices = [turns * n for n in supports(self.pool.counts, self.shots)]
        ways = range(self.sizes.fewest, self.ways + 1)
        return sum(self._classes.sets(k, choices) for k in ways)

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
            ...]`, and their labels, int32 in `[0, ways)`. If sizes are drawn, also
            `support_weight` and `query_weight`, and all arrays are padded.
        """
        return self.fill(self.plan(seed, count))

    def plan(self, seed: Any, count: int) -> dict[str, Any]:
        """Labels and row numbers of many tasks; int32 tensors `[count, examples]`."""
        seeds = tf.unstack(tf.random.split(as_seed(seed), 5))
        classes, limit = self._classes(seeds[0], count, self.ways)
        counts = tf.gather(self._counts, classes)
        picks = ranking(
            seeds[1],
            [count, self.ways, self._largest],
            self.sizes.picks,
            sizes=counts,
        )
        return self.arranged(seeds, classes, picks, limit)

    def arranged(
        self, seeds: list[Any], classes: Any, picks: Any, limit: Any = None
    ) -> dict[str, Any]:
        """The plan of tasks whose classes and examples are chosen already.

        Args:
            seeds: list of five int tensors `[2]`; the first chose the classes, the
                second the examples.
            classes: int32 `[count, ways]`.
            picks: int32 `[count, ways, examples]`, different places in each class.
            limit: int32 `[count]`, how many of the classes there are; None for all.
        """
        rows = tf.gather(self._offsets, classes)[..., None] + picks
        if self.rotate_classes:
            turns = tf.random.stateless_uniform(
                [*classes.shape, 1], seeds[2], 0, 4, tf.int32
            )
            rows += turns * self.pool.num_examples
        counts = tf.gather(self._counts, classes)
        of_sizes = tf.random.fold_in(seeds[1], 1)
        parts = self.sizes.cut([of_sizes, *seeds[3:]], rows, counts, limit)
        plan: dict[str, Any] = {}
        for name, part in zip(("support", "query"), parts):
            plan[f"{name}_rows"] = part.rows
            plan[f"{name}_y"] = self._labels(part)
            if part.weight is not None:
                plan[f"{name}_weight"] = part.weight
        return plan

    def _labels(self, part: Part) -> Any:
        """The labels of rows: a class's place in its task, or its class number."""
        if self._class_of_row is None:
            return part.places
        return tf.gather(self._class_of_row, part.rows)

    def fill(self, plan: Any) -> Episode:
        """The tasks of a plan: replaces row numbers by examples."""
        task = {
            "support_x": self._examples(plan["support_rows"]),
            "support_y": plan["support_y"],
            "query_x": self._examples(plan["query_rows"]),
        }
        task |= {key: plan[key] for key in plan if key.endswith("_weight")}
        return task, plan["query_y"]

    def _examples(self, rows: Any) -> Any:
        examples = gather(self._table, rows)
        own = self.preparation
        return examples if own is None else own.of_pool(examples)
