"""Splits a pool by classes, or a table by tasks, for training, validation and test."""

from typing import Literal

import numpy as np

from maml_keras.data.audit_rows import warn_of_shared_rows
from maml_keras.data.dealing import Part, assign
from maml_keras.data.pool import Pool
from maml_keras.data.table_preparation import TablePreparation
from maml_keras.data.task_table import TaskTable


def split_classes(
    pool: Pool,
    *,
    train: Part,
    validation: Part,
    test: Part,
    seed: int = 0,
    by: Literal["class", "group"] = "class",
) -> tuple[Pool, Pool, Pool]:
    """Splits a pool into three pools without a common class.

    Classes are assigned in the order of `sha256(seed, name)`, so the result depends on
    the seed and the names only, and not on the process, the platform or the order of
    the pool. Listed names are assigned first, then counts and fractions, then the
    remainder.

    Warns if the same example is in the training part and in another part.

    Args:
        pool: the pool to split.
        train: a number of classes, a fraction of all classes, a list of names, or
            None for the remainder. At most one of the three parts may be None.
        validation: like `train`; 0 gives a pool without classes.
        test: like `train`.
        seed: int.
        by: "class", or "group" to count, list and assign whole groups (alphabets).

    Returns:
        Train, validation and test `Pool`, classes sorted by name.

    Raises:
        ValueError: if parts overlap or need too many classes, a name is unknown, or
            train or test gets no class.

    >>> from maml_keras.data import from_arrays
    >>> pool = from_arrays(np.zeros([10, 2]), np.arange(10))
    >>> [p.num_classes for p in split_classes(pool, train=0.6, validation=1, test=None)]
    [6, 1, 3]
    """
    if by not in ("class", "group"):
        raise ValueError(
            f"`by` must be 'class' or 'group'. Received: {by!r}. Pass by='class'."
        )
    if by == "group" and pool.groups is None:
        raise ValueError(
            "`by='group'` needs a pool with groups. Received: "
            f"{pool!r}. Pass by='class', or groups=... to `from_arrays`."
        )
    unit_of = pool.class_names if by == "class" else (pool.groups or ())
    parts = {"train": train, "validation": validation, "test": test}
    assigned = assign(unit_of, parts, seed=seed, by=by)
    by_name = np.argsort(np.array(pool.class_names, dtype=object))
    pools = [
        pool.select([c for c in by_name if unit_of[c] in assigned[name]])
        for name in parts
    ]
    warn_of_shared_rows(dict(zip(parts, pools, strict=True)))
    return pools[0], pools[1], pools[2]


def split_tasks(
    table: TaskTable,
    *,
    train: Part,
    validation: Part,
    test: Part,
    seed: int = 0,
    by: str = "task",
) -> tuple[TaskTable, TaskTable, TaskTable]:
    """Splits a table into three tables without a common task, and prepares them.

    Tasks are dealt in the order of `sha256(seed, name)`, as `split_classes` deals
    classes. The `preparation` of all three tables is fitted on the training tasks
    alone.

    Args:
        table: the table to split.
        train: a number of tasks, a fraction of all tasks, a list of names, or None for
            the remainder. At most one of the three parts may be None.
        validation: like `train`; 0 gives a table without tasks.
        test: like `train`.
        seed: int.
        by: "task", or the table's group column, to count, list and deal whole groups.

    Returns:
        Train, validation and test `TaskTable`, tasks sorted by name.

    Raises:
        ValueError: if parts overlap or need too many tasks, a name is unknown, train or
            test gets no task, or the preparation refuses a column or a value.

    >>> from maml_keras.data import from_table
    >>> data = {"shop": list("aabbcc"), "size": range(6), "sales": range(6)}
    >>> table = from_table(data, task="shop", inputs=["size"], target="sales")
    >>> parts = split_tasks(table, train=2, validation=0, test=["a"])
    >>> [part.names for part in parts]
    [('b', 'c'), (), ('a',)]
    """
    if by != "task" and (table.groups is None or by != table.group_column):
        raise ValueError(
            "`by` must be 'task' or the column of groups. Received: "
            f"{by!r} for a table with groups={table.group_column!r}. Pass "
            "`from_table(..., groups=...)`."
        )
    unit_of = table.names if by == "task" else (table.groups or ())
    parts = {"train": train, "validation": validation, "test": test}
    assigned = assign(unit_of, parts, seed=seed, by=by)
    tables = [
        table.select([t for t, unit in enumerate(unit_of) if unit in assigned[name]])
        for name in parts
    ]
    preparation = TablePreparation.fit(tables[0])
    prepared = [part.prepared_by(preparation) for part in tables]
    return prepared[0], prepared[1], prepared[2]
