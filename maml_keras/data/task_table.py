"""`TaskTable`: the rows of a table, sorted into tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maml_keras.data.columns import Column


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TaskTable:
    """Examples in the rows of a table, sorted by task, and by time within a task.

    Task t owns the rows `offsets[t] : offsets[t] + counts[t]` of each column.

    `from_table` makes tables, `split_tasks` splits them, and `FewExamples` draws
    episodes. Values are raw; a `preparation` turns them into the numbers that a network
    takes.

    Attributes:
        source: str, the table's name for messages.
        task: str, the column that tells the task.
        inputs: dict of the input columns by name.
        targets: dict of the target columns by name.
        names: the name of each task.
        counts: int array `[tasks]`, the rows of each task.
        rows: int array, the row in the source of each row, from 0.
        order: None, or the column by which the rows of a task are sorted.
        group_column: None, or the column that tells a task's group.
        groups: None, or the group of each task.
        missing: `"refuse"` or `"mean"`, what becomes of missing inputs.
        unknown: `"refuse"` or `"zeros"`, what becomes of categories that training
            does not have.
        missing_target: `"refuse"`, `"leave_out"` or `"mask"`, what becomes of rows
            without a target.
        unlabelled: int, the rows of the source that were left out for this reason.
        too_small: dict of tasks that were left out and their numbers of rows.
        preparation: None, or the `TablePreparation` that was fitted on training tasks.

    >>> from maml_keras.data import from_table
    >>> data = {"shop": list("abab"), "size": [1.0, 3.0, 1.0, 3.0],
    ...         "sales": [10.0, 30.0, 10.0, 30.0]}
    >>> table = from_table(data, task="shop", inputs=["size"], target="sales")
    >>> table.names, table.counts.tolist()
    (('a', 'b'), [2, 2])
    """

    source: str
    task: str
    inputs: Mapping[str, Column]
    targets: Mapping[str, Column]
    names: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    order: str | None = None
    group_column: str | None = None
    groups: tuple[str, ...] | None = None
    missing: str = "refuse"
    unknown: str = "refuse"
    missing_target: str = "refuse"
    unlabelled: int = 0
    too_small: Mapping[str, int] = dataclasses.field(default_factory=dict)
    preparation: Any = None

    @property
    def num_tasks(self) -> int:
        """How many tasks there are."""
        return len(self.names)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """The first row of each task."""
        return np.cumsum(self.counts) - self.counts

    def __repr__(self) -> str:
        lines = [f"TaskTable({self._size()} from {self.source}"]
        if self.unlabelled:
            lines.append(f"left out without a target: {self.unlabelled} rows")
        if self.too_small:
            lines.append(f"left out as too small: {_named(self.too_small)}")
        return "; ".join(lines) + ")"

    def _size(self) -> str:
        if not self.num_tasks:
            return "no tasks"
        low, high = int(self.counts.min()), int(self.counts.max())
        each = f"{low}" if low == high else f"{low} to {high}"
        groups = "" if self.groups is None else f" in {len(set(self.groups))} groups"
        tasks = f"{self.num_tasks} task{'' if self.num_tasks == 1 else 's'}{groups}"
        return f"{tasks}, {len(self.rows)} rows, {each} a task"

    def place(self, row: int) -> str:
        """Where a row of this table comes from, for messages."""
        task = int(np.searchsorted(self.offsets, row, side="right")) - 1
        return (
            f"row {int(self.rows[row])} of {self.source} ({self.task} "
            f"{self.names[task]!r})"
        )

    def select(self, tasks: Sequence[int] | npt.NDArray[Any]) -> TaskTable:
        """The table of some tasks, in the given order.

        Args:
            tasks: different ints in `[0, num_tasks)`.

        Raises:
            ValueError: if a number is out of range or repeated.
        """
        chosen = np.asarray(tasks, np.int64).reshape(-1)
        inside = (chosen >= 0) & (chosen < self.num_tasks)
        if not inside.all() or len(set(chosen.tolist())) != len(chosen):
            raise ValueError(
                f"`tasks` must be different integers in [0, {self.num_tasks}). "
                f"Received: {chosen.tolist()[:20]}. Look up the positions in "
                "`table.names`."
            )
        offsets = self.offsets
        flat = [np.arange(offsets[t], offsets[t] + self.counts[t]) for t in chosen]
        rows = np.concatenate(flat) if flat else np.zeros(0, np.int64)
        return dataclasses.replace(
            self,
            inputs={name: c.take(rows) for name, c in self.inputs.items()},
            targets={name: c.take(rows) for name, c in self.targets.items()},
            names=tuple(self.names[t] for t in chosen),
            counts=self.counts[chosen],
            rows=self.rows[rows],
            groups=None
            if self.groups is None
            else tuple(self.groups[t] for t in chosen),
        )

    def drop_smaller_than(self, rows: int) -> TaskTable:
        """The table of the tasks with at least `rows` rows.

        Args:
            rows: int, e.g. `shots + queries`.

        Returns:
            A new `TaskTable`; its `too_small` names the tasks that were left out.

        Raises:
            ValueError: if no task has that many rows.
        """
        small = {
            name: int(count)
            for name, count in zip(self.names, self.counts)
            if count < rows
        }
        if len(small) == self.num_tasks:
            largest = max(small.values(), default=0)
            raise ValueError(
                "`rows` must not exceed the largest task. Received: "
                f"{rows}, but the largest task of {self.source} has {largest} rows. "
                "Lower `rows`."
            )
        kept = self.select(np.flatnonzero(self.counts >= rows))
        return dataclasses.replace(kept, too_small={**self.too_small, **small})

    def prepared_by(self, preparation: Any) -> TaskTable:
        """The same tasks with a preparation that was fitted on others.

        Args:
            preparation: a `TablePreparation`, such as that of the training tasks.

        Raises:
            ValueError: if columns are missing, or a value is refused; the message names
                the row.
        """
        preparation.check(self)
        return dataclasses.replace(self, preparation=preparation)


def check_task_sizes(table: TaskTable, rows: int, why: str) -> None:
    """Refuses a table with tasks of fewer rows than episodes need.

    Args:
        table: the table.
        rows: int, how many rows a task needs.
        why: str, which arguments want that many, for the message.

    Raises:
        ValueError: with the number of such tasks and their names.
    """
    small = {n: int(c) for n, c in zip(table.names, table.counts) if c < rows}
    if small:
        raise ValueError(
            f"{why} must fit in the smallest task: {rows} rows. Received: "
            f"{len(small)} of {table.num_tasks} tasks with fewer: {_named(small)}. "
            f"Lower the numbers, or leave these tasks out with "
            f"`table.drop_smaller_than({rows})`."
        )


def _named(small: Mapping[str, int]) -> str:
    """Tasks with their numbers of rows, the first five by name."""
    shown = [f"{name!r} ({count})" for name, count in list(small.items())[:5]]
    more = len(small) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
