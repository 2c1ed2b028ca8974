"""`from_table`: tasks from a table in which a column tells the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maml_keras.data.columns import Column
from maml_keras.data.table_sources import check_no_missing, read_columns, title
from maml_keras.data.target_kinds import labelled_rows
from maml_keras.data.task_table import TaskTable

MISSING = ("refuse", "mean")
UNKNOWN = ("refuse", "zeros")
MISSING_TARGET = ("refuse", "leave_out", "mask")


def from_table(
    data: Any,
    *,
    task: str,
    inputs: Sequence[str] = (),
    categorical: Sequence[str] = (),
    target: str | Sequence[str],
    order: str | None = None,
    groups: str | None = None,
    missing: str = "refuse",
    unknown: str = "refuse",
    missing_target: str = "refuse",
    at_least: int = 2,
) -> TaskTable:
    """Tasks from a table: each row is an example, and a column tells its task.

    Args:
        data: a `pandas.DataFrame` of any types, the path of a `.csv` or `.parquet`
            file or of a folder of Parquet files, a dict of columns, a `pyarrow.Table`,
            or a `datasets.Dataset` of Hugging Face. Only the named columns are kept.
        task: the column that tells the task: a country, a customer, a machine.
        inputs: input columns. Columns of text and of categories become categories,
            booleans 0 and 1.
        categorical: columns whose values are names, also if they are numbers; those
            that are not in `inputs` are inputs, too. A target that is listed here is a
            class.
        target: the column to predict, or several. Numbers are predicted as numbers,
            text and categories as classes, booleans as labels that are true or false;
            several columns must be of one of these kinds, and only one may be classes.
        order: None, or a column of numbers or times: then the support set comes first
            in time.
        groups: None, or a column with one value for each task, such as a continent, by
            which `split_tasks` can deal tasks.
        missing: what becomes of a missing input: `"refuse"`, or `"mean"`: the mean of
            the training tasks, and where training has missing values an input that is
            1 if the value is missing. A missing category is a category of its own.
        unknown: what becomes of a category that training does not have: `"refuse"`, or
            `"zeros"`: none of the known categories.
        missing_target: what becomes of a row without a target, or without one of
            several: `"refuse"`, or `"leave_out"`: no task has the row, and
            `table.unlabelled` counts such rows. `"mask"` leaves out rows without any
            target alone: a missing target of several is NaN, and the loss
            `mk.KnownTargets("mse")` counts the others of its row.
        at_least: int, tasks with fewer rows are left out; `table.too_small` and
            `print(table)` name them.

    Returns:
        A `TaskTable`, sorted by task and `order`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ImportError: if pandas, or for Parquet pyarrow, is not installed.
        ValueError: if a column is missing or does not fit, or a value is missing; the
            message names file, row and column.

    >>> data = {"country": ["b", "a", "a", "a"], "year": [1, 3, 2, 1],
    ...         "life": [30.0, 52.0, 51.0, 50.0]}
    >>> table = from_table(data, task="country", inputs=["year"], target="life",
    ...                    order="year")
    >>> table
    TaskTable(1 task, 3 rows, 3 a task from the dict; left out as too small: 'b' (1))
    >>> table.targets["life"].values.tolist()
    [50.0, 51.0, 52.0]
    """
    source = title(data)
    targets = [target] if isinstance(target, str) else list(target)
    chosen = _inputs(inputs, categorical, targets)
    _check_option("missing", missing, MISSING)
    _check_option("unknown", unknown, UNKNOWN)
    _check_option("missing_target", missing_target, MISSING_TARGET)
    roles = [task, *chosen, *targets, *([groups] if groups else [])]
    names = list(dict.fromkeys([*roles, *([order] if order else [])]))
    _check_roles(names, task, targets, chosen)
    names_alone = {task, *categorical, *([groups] if groups else [])} - {order}
    found = read_columns(data, names, text=names_alone)
    if not len(found[task].values):
        raise ValueError(f"`data` must hold a row. Received: {source} without rows.")
    whole = [task, *([groups] if groups else [])]
    for name in [*whole, *targets] if missing_target == "refuse" else whole:
        check_no_missing(found[name], name, source)
    for name in chosen:
        _check_input(found[name], name, source, missing)
    known = labelled_rows([found[name] for name in targets], missing_target)
    if not known.any():
        which = "a target among" if missing_target == "mask" else "all of"
        raise ValueError(
            f"{source} must have a row with {which} {', '.join(targets)}. Received: "
            "none. Name the columns that hold the targets."
        )
    rows, labels, counts, empty = _sorted_rows(found, task, order, source, known)
    firsts = rows[np.cumsum(counts) - counts]
    table = TaskTable(
        source=source,
        task=task,
        inputs={name: found[name].take(rows) for name in chosen},
        targets={name: found[name].take(rows) for name in targets},
        names=tuple(labels),
        counts=counts,
        rows=rows,
        order=order,
        group_column=groups,
        groups=tuple(found[groups].values[firsts]) if groups else None,
        missing=missing,
        unknown=unknown,
        missing_target=missing_target,
        unlabelled=int((~known).sum()),
        too_small=empty,
    )
    if groups:
        _check_one_group(table, found[groups].take(rows))
    return table.drop_smaller_than(at_least)


def _inputs(
    inputs: Sequence[str], categorical: Sequence[str], targets: list[str]
) -> list[str]:
    for name, value in (("inputs", inputs), ("categorical", categorical)):
        if isinstance(value, str):
            raise ValueError(
                f"`{name}` must be a list of columns. Received: {value!r}. Pass "
                f"{name}=[{value!r}]."
            )
    return list(dict.fromkeys([*inputs, *(c for c in categorical if c not in targets)]))


def _check_roles(
    names: list[str], task: str, targets: list[str], inputs: list[str]
) -> None:
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(
            f"Columns must have names. Received: {wrong[0]!r}. Rename the columns, "
            "with `df.columns = [...]`."
        )
    if not targets or not inputs:
        empty = "inputs" if targets else "target"
        raise ValueError(f"`{empty}` must name a column. Received: none.")
    both = sorted({*targets, task} & set(inputs)) or sorted({task} & set(targets))
    if both:
        raise ValueError(
            "A column must be the task, an input or a target. Received: "
            f"{both[0]!r} twice. A network that sees its target learns nothing; a "
            "network that sees the task's name cannot know a new task."
        )


def _check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}. Received: "
            f"{value!r}."
        )


def _check_input(column: Column, name: str, source: str, missing: str) -> None:
    if column.kind == "empty":
        raise ValueError(
            f"Column {name!r} of {source} must hold values. Received: none in any row. "
            "Leave it out of `inputs`."
        )
    if column.kind == "time":
        raise ValueError(
            f"Column {name!r} of {source} must hold numbers to be an input. Received: "
            "times. Make a number of it, such as the days since a date, the month or "
            "the hour; a column of times can be `order`."
        )
    if missing == "refuse" and column.missing.any():
        raise ValueError(
            f"Column {name!r} of {source} must have a value in each row. Received: "
            f"{int(column.missing.sum())} missing, the first in row "
            f"{int(np.argmax(column.missing))}. Pass missing='mean', or leave these "
            f"rows out: `df.dropna(subset=[{name!r}])`."
        )


def _sorted_rows(
    found: dict[str, Column],
    task: str,
    order: str | None,
    source: str,
    known: Any,
) -> tuple[Any, list[str], Any, dict[str, int]]:
    """Rows sorted by task and order, names and sizes of tasks, and tasks without rows.

    Args:
        found: the columns by name.
        task: the column that tells the task.
        order: None, or the column to sort by.
        source: the table's name for messages.
        known: bool `[rows]`, the rows that have a target.
    """
    # Sorting integers is much faster than sorting strings.
    labels, codes = np.unique(found[task].values, return_inverse=True)
    keys = [codes] if order is None else [_times(found[order], order, source), codes]
    rows = np.lexsort(keys)  # By the last key first; stable.
    rows = rows[known[rows]]
    counts = np.bincount(codes[rows], minlength=len(labels)).astype(np.int64)
    there = counts > 0
    empty = dict.fromkeys(labels[~there].tolist(), 0)
    return rows.astype(np.int64), labels[there].tolist(), counts[there], empty


def _times(column: Column, name: str, source: str) -> Any:
    """Numbers by which the column `order` sorts; dates in text are read."""
    check_no_missing(column, name, source)
    if not column.is_text:
        return column.values
    import pandas as pd

    read = pd.to_datetime(
        pd.Series(column.values), format="ISO8601", errors="coerce", utc=True
    )
    if read.isna().any():
        row = int(np.argmax(read.isna()))
        raise ValueError(
            f"Column {name!r} of {source} must hold numbers or times to be `order`. "
            f"Received: {column.values[row]!r} in row {row}. Convert the column, such "
            f"as by `pandas.to_datetime(df[{name!r}], dayfirst=True)`."
        )
    return read.astype("datetime64[ns, UTC]").astype("int64").to_numpy()


def _check_one_group(table: TaskTable, column: Column) -> None:
    groups = np.repeat(np.array(table.groups, object), table.counts)
    other = groups != column.values
    if other.any():
        row = int(np.argmax(other))
        raise ValueError(
            f"Column {table.group_column!r} must have one value for each task. "
            f"Received: {groups[row]!r} and {column.values[row]!r}, the second in "
            f"{table.place(row)}. Correct the table, or leave `groups` out."
        )
