"""The examples of one task in a table, and the answers to rows without a target."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from maml_keras.data.preparation import Preparation
from maml_keras.data.table_preparation import TablePreparation
from maml_keras.data.table_sources import read_columns

# Raw inputs and raw targets; targets are None for rows that are to be predicted.
Sets = dict[str, tuple[Any, Any]]


def examples(
    own: Preparation,
    data: str | pathlib.Path,
    query: str | pathlib.Path | None,
    target: Sequence[str] | None,
) -> tuple[Sets, Any]:
    """The rows of one or two tables, as an export with a preparation takes them.

    Args:
        own: the export's preparation.
        data: the file to adapt to.
        query: None, or the file to measure on or to predict.
        target: None, or the target columns, if they have other names than in training.

    Returns:
        Raw inputs and targets under `"yours"` and `"query"`, and the row numbers in
        the files of rows that are to be predicted. Rows of `data` without a target,
        which an export may allow, are such rows if there is no `query`.

    Raises:
        ValueError: if a file is no table, or does not fit, with the option's name.
    """
    if not isinstance(own, TablePreparation):
        raise ValueError(
            "`export` must take tables to be adapted to files. Received: an export "
            f"with {type(own).__name__}. Use `mk.fine_tune(path, x, y)`."
        )
    yours = _read(own, "--data", data, target)
    if yours[1] is None:
        names = ", ".join(target or own.target_columns.names)
        raise ValueError(
            f"`--data` must have the target {names}. Received: {data} without it. "
            "Name the column with `--target`."
        )
    known, unknown = _parts(own, *yours)
    found = {"yours": known}
    asked = unknown if query is None else np.zeros(0, int)
    if len(asked):
        found["query"] = _rows(yours[0], asked), None
    if query is not None:
        found["query"] = _read(own, "--query", query, target)
        if found["query"][1] is None:
            asked = np.arange(len(next(iter(found["query"][0].values()))))
        else:
            found["query"], _ = _parts(own, *found["query"])
    return found, asked


def _rows(x: Any, rows: Any) -> Any:
    return {name: column[rows] for name, column in x.items()}


def _parts(own: TablePreparation, x: Any, y: Any) -> tuple[Any, Any]:
    """The rows with a target, and the numbers of the others."""
    numbers = {"row": np.arange(len(y))}
    kept = own.labelled(numbers, y)[0]["row"]
    return (_rows(x, kept), y[kept]), np.setdiff1d(numbers["row"], kept)


def _read(
    own: TablePreparation,
    option: str,
    path: str | pathlib.Path,
    target: Sequence[str] | None,
) -> tuple[Any, Any]:
    path = pathlib.Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(
            f"`{option}` must be a .csv or .parquet file for this export, which takes "
            f"the columns {', '.join(own.columns)}. Received: {path}."
        )
    try:
        y = None if target is None else _targets(own, path, list(target))
        return own.raw(path, y)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"`{option}`: {error}") from error
    except ValueError as error:
        raise ValueError(f"`{option}`: {error}") from error


def _targets(own: TablePreparation, path: pathlib.Path, names: list[str]) -> Any:
    """Target columns under other names; None if the file does not have them."""
    wanted = own.target_columns
    if len(names) != len(wanted.names):
        raise ValueError(
            f"`--target` must name {len(wanted.names)} column(s), for "
            f"{', '.join(wanted.names)}. Received: {', '.join(names)}."
        )
    text = names if wanted.spec.dtype.name == "string" else []
    found = read_columns(path, [], text=text, optional=names)
    if not found:
        return None
    return np.stack([found[name].values for name in names], axis=-1)


def answers(own: Any, predictions: Any, rows: Any) -> list[str]:
    """Lines with the prediction of each row, in the unit of the target.

    Args:
        own: the export's `TablePreparation`.
        predictions: array `[rows, outputs]`, what the export returned.
        rows: ints, the number of each row in its file.
    """
    columns = own.answers(predictions)
    lines = ["  ".join(["row".rjust(6), *(name.rjust(12) for name in columns)])]
    for row, values in zip(rows, zip(*columns.values())):
        shown = [str(v) if isinstance(v, str) else f"{float(v):.6g}" for v in values]
        lines.append("  ".join([f"{row:>6}", *(text.rjust(12) for text in shown)]))
    return lines
