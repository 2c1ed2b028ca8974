"""`FewExamples`: tasks of a table, with few rows to learn from."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import tensorflow as tf

from maml_keras.data.class_numbers import ClassNumbers
from maml_keras.data.family import Episode, TaskFamily, first_row
from maml_keras.data.seeds import as_seed
from maml_keras.data.table_preparation import TablePreparation
from maml_keras.data.target_kinds import Classes
from maml_keras.data.task_table import TaskTable, check_task_sizes

# Keys that an episode draws at once, so that tasks of many rows fit in memory.
KEYS_AT_ONCE = 2**22


@final
class FewExamples(TaskFamily):
    """Episodes whose tasks are those of a table: few rows as support, others as query.

    Each episode draws a task, all with the same probability, and different rows of it.
    If the table has an `order`, the support rows are the earliest of the drawn rows, so
    the network learns from the past and predicts what follows.

    The rows are prepared once, by `table.preparation`; `support_x` and `query_x` are
    matrices `[examples, num_features]`.

    Args:
        table: a `TaskTable` with a preparation, such as a part of `split_tasks`.
        shots: int, support rows.
        queries: int, query rows, or `"rest"` for all other rows of the task. With an
            `order`, `"rest"` takes the task's first `shots` rows as support. Smaller
            tasks are padded to the largest, and `query_weight` is 0 on padding.

    Raises:
        ValueError: if the table has no preparation, or a task too few rows.

    >>> from maml_keras.data import from_table, split_tasks
    >>> data = {"shop": list("aaabbbccc"), "size": range(9), "sales": range(9)}
    >>> table = from_table(data, task="shop", inputs=["size"], target="sales")
    >>> train, _, test = split_tasks(table, train=2, validation=0, test=1)
    >>> task, query_y = FewExamples(train, shots=2, queries=1).sample([0, 1])
    >>> task["support_x"].shape, query_y.shape
    (TensorShape([2, 1]), TensorShape([1, 1]))
    """

    def __init__(
        self, table: TaskTable, *, shots: int = 5, queries: int | str = 10
    ) -> None:
        _check(table, shots, queries)
        self.table = table
        self.shots = shots
        self.queries = queries
        self.preparation: TablePreparation = table.preparation
        largest = int(table.counts.max())
        self.num_queries = largest - shots if queries == "rest" else int(queries)
        self.chunk = max(1, min(64, KEYS_AT_ONCE // largest))
        self._largest = largest
        raw_x = {
            name: c.values if c.is_text else c.values.astype(np.float32)
            for name, c in table.inputs.items()
        }
        raw_y = self.preparation.target_columns.raw(dict(table.targets))
        # tf.data runs on the CPU; see `NWayKShot`.
        with tf.init_scope(), tf.device("CPU:0"):
            self._x = self.preparation.inputs(raw_x)
            self._y = self.preparation.targets(tf.constant(raw_y))
            self._counts = tf.constant(table.counts, tf.int32)
            self._offsets = tf.constant(table.offsets, tf.int32)

    def __repr__(self) -> str:
        return (
            f"FewExamples({self.table!r}, shots={self.shots}, queries={self.queries!r})"
        )

    def distinct_tasks(self) -> int | None:
        """How many different support sets there are; None if they are many.

        A family that takes the first rows of each task has one for each task.
        """
        first = self.queries == "rest" and self.table.order is not None
        return self.table.num_tasks if first else None

    @property
    def has_classes(self) -> bool:
        """Whether the target is a class."""
        return isinstance(self.preparation.target_columns, Classes)

    def class_numbers(self) -> ClassNumbers:
        """The tasks themselves: a class of a table is the same in every task.

        Raises:
            ValueError: if the targets are no classes.

        >>> from maml_keras.data import from_table, split_tasks
        >>> shops, kinds = list("aaabbbccc"), list("xyxyxyxyx")
        >>> data = {"shop": shops, "size": range(9), "kind": kinds}
        >>> table = from_table(data, task="shop", inputs=["size"], target="kind")
        >>> train, *_ = split_tasks(table, train=2, validation=0, test=1)
        >>> FewExamples(train, shots=1, queries=1).class_numbers().num_classes
        2
        """
        if not self.has_classes:
            names = ", ".join(self.preparation.target_columns.names)
            raise ValueError(
                f"The target must be a column of classes. Received: {names}, without "
                "classes. Text is a class; name a column of numbers that are classes "
                "in `categorical` of `from_table`."
            )
        return ClassNumbers(self, self.preparation.num_outputs)

    def sample(self, seed: Any) -> Episode:
        """One task: the first of `sample_many(seed, 1)`."""
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many tasks.

        Args:
            seed: int tensor `[2]`.
            count: int.

        Returns:
            `support_x [count, shots, features]`, `support_y [count, shots, ...]`,
            `query_x` and `query_y`, for `"rest"` also `query_weight [count, queries]`.
        """
        return self.fill(self.plan(seed, count))

    def plan(self, seed: Any, count: int) -> dict[str, Any]:
        """Row numbers of many tasks, int32 `[count, examples]`; -1 is padding."""
        seeds = tf.unstack(tf.random.split(as_seed(seed), 2))
        tasks = tf.random.stateless_uniform(
            [count], seeds[0], 0, self.table.num_tasks, tf.int32
        )
        sizes = tf.gather(self._counts, tasks)[:, None]
        picks = self._picks(seeds[1], sizes)
        rows = tf.gather(self._offsets, tasks)[:, None] + picks
        return {"rows": tf.where(picks < sizes, rows, -1)}

    def _picks(self, seed: Any, sizes: Any) -> Any:
        """Support rows, then query rows of tasks, numbers `>= sizes` for padding."""
        wanted = self.shots + self.num_queries
        ordered = self.table.order is not None
        places = tf.broadcast_to(
            tf.range(self._largest), [tf.shape(sizes)[0], self._largest]
        )
        if ordered and self.queries == "rest":
            return places
        keys = tf.random.stateless_uniform(tf.shape(places), seed, None, None, tf.int32)
        # Rows that a task does not have come last: `top_k` takes the lower of two
        # places with equal keys.
        keys = tf.where(places < sizes, keys, tf.int32.min)
        picks = tf.math.top_k(keys, wanted).indices
        return tf.sort(picks, axis=-1) if ordered else picks

    def fill(self, plan: Any) -> Episode:
        """The tasks of a plan: replaces row numbers by prepared rows."""
        rows = plan["rows"]
        support, query = rows[:, : self.shots], rows[:, self.shots :]
        there = query >= 0
        # Padding repeats a row of the task itself, so its values are ordinary.
        query = tf.where(there, query, support[:, :1])
        task = {
            "support_x": tf.gather(self._x, support),
            "support_y": tf.gather(self._y, support),
            "query_x": tf.gather(self._x, query),
        }
        if self.queries == "rest":
            task["query_weight"] = tf.cast(there, tf.float32)
        return task, tf.gather(self._y, query)


def _check(table: Any, shots: Any, queries: Any) -> None:
    if not isinstance(table, TaskTable):
        raise ValueError(
            f"`table` must be a TaskTable. Received: type {type(table).__name__}. Make "
            "one with `from_table`."
        )
    if table.preparation is None:
        raise ValueError(
            "`table` must have a preparation. Received: a table without one. Split it "
            "with `split_tasks`, which fits a preparation on the training tasks, or "
            "pass `table.prepared_by(preparation)`."
        )
    if not table.num_tasks:
        raise ValueError(
            "`table` must have tasks. Received: none. Give this part of the split more "
            "than 0 tasks."
        )
    for name, value in (("shots", shots), ("queries", queries)):
        if name == "queries" and value == "rest":
            continue
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < 1:
            rest = " or 'rest'" if name == "queries" else ""
            raise ValueError(
                f"`{name}` must be an integer of at least 1{rest}. Received: "
                f"{value!r}. Pass e.g. {name}=5."
            )
    least = shots + (1 if queries == "rest" else queries)
    check_task_sizes(table, least, f"shots={shots} and queries={queries!r}")
