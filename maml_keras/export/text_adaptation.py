"""The examples of one task in a table of texts, and the classes of other texts."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from maml_keras.data.table_sources import check_no_missing, read_columns

# The column that holds the texts.
TEXT = "text"


class Texts(NamedTuple):
    """The texts of one or two tables.

    Attributes:
        sets: texts and class numbers under `"yours"` and `"query"`; the numbers are
            None for texts that are to be predicted.
        classes: the names of the classes of `"yours"`, in the order of their numbers.
        counts: the number of texts of each class of `"yours"`.
        rows: the numbers of the rows that are to be predicted, in their file.
    """

    sets: dict[str, tuple[Any, Any]]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    rows: Any


def examples(
    data: str | pathlib.Path,
    query: str | pathlib.Path | None,
    target: Sequence[str] | None,
    *,
    ways: int,
) -> Texts:
    """The texts of one or two tables, with a number for each class of the first.

    Classes are numbered in the order of their names. Rows of `data` without a class are
    to be predicted if there is no `query`; so are all rows of a `query` without the
    column.

    Args:
        data: the file to adapt to: a column `text`, and the column of classes.
        query: None, or the file to measure on or to predict.
        target: the column of classes, alone in a list.
        ways: int, the outputs of the export.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a file is no such table, with the option's name.
    """
    if target is None or len(target) != 1:
        came = "none" if target is None else ", ".join(target)
        raise ValueError(
            "`--target` must name the column of classes, beside the column "
            f"'{TEXT}', for an export that takes texts. Received: {came}."
        )
    texts, named = _read("--data", data, target[0])
    if named is None:
        raise ValueError(
            f"`--data` must have the column of classes {target[0]!r}. Received: {data} "
            "without it. Name the column with `--target`."
        )
    known = named != ""
    classes, numbers, counts = np.unique(
        named[known], return_inverse=True, return_counts=True
    )
    if not 1 <= len(classes) <= ways:
        raise ValueError(
            f"`--data` must hold at most {ways} classes, the number of outputs of the "
            f"export, and at least one. Received: {len(classes)} in {data}."
        )
    sets: dict[str, tuple[Any, Any]] = {
        "yours": (texts[known], numbers.astype(np.int32))
    }
    rows = np.flatnonzero(~known) if query is None else np.zeros(0, int)
    if query is not None:
        asked, named = _read("--query", query, target[0])
        if named is None:
            rows = np.arange(len(asked))
            sets["query"] = asked, None
        else:
            kept = named != ""
            own = _numbers(named[kept], classes, query)
            sets["query"] = asked[kept], own
    elif len(rows):
        sets["query"] = texts[rows], None
    return Texts(sets, tuple(map(str, classes)), tuple(map(int, counts)), rows)


def answers(classes: Sequence[str], predictions: Any, rows: Any) -> list[str]:
    """Lines with the class of each row.

    Args:
        classes: the names of the classes, in the order of their numbers.
        predictions: array `[rows, outputs]`, what the export returned. Outputs beyond
            the classes stand for none of them.
        rows: ints, the number of each row in its file.

    >>> print("\\n".join(answers(["sport", "weather"], [[0.1, 0.9, 5.0]], [7])))
       row  class
         7  weather
    """
    best = np.argmax(np.asarray(predictions)[:, : len(classes)], axis=-1)
    lines = [f"{row:>6}  {classes[number]}" for row, number in zip(rows, best)]
    return ["   row  class", *lines]


def _read(option: str, path: str | pathlib.Path, target: str) -> tuple[Any, Any]:
    """Texts and names of classes, "" where a name is missing; None without names."""
    path = pathlib.Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(
            f"`{option}` must be a .csv or .parquet file with the columns '{TEXT}' and "
            f"{target!r} for this export, which takes texts. Received: {path}."
        )
    try:
        found = read_columns(path, [TEXT], text=[TEXT, target], optional=[target])
        check_no_missing(found[TEXT], TEXT, path.name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"`{option}`: {error}") from error
    except ValueError as error:
        raise ValueError(f"`{option}`: {error}") from error
    texts = found[TEXT].values.astype(object)
    if target not in found:
        return texts, None
    named = found[target]
    # A column without any value has no kind yet.
    return texts, named.values.astype(str) if named.is_text else np.full(len(texts), "")


def _numbers(named: Any, classes: Any, path: Any) -> Any:
    unknown = sorted(set(named.tolist()) - set(classes.tolist()))
    if unknown:
        raise ValueError(
            f"`--query` must hold the classes of `--data`: {', '.join(classes)}. "
            f"Received: {', '.join(unknown)} in {path}."
        )
    return np.searchsorted(classes, named).astype(np.int32)
