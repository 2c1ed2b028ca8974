"""Reads some columns of a DataFrame, a CSV or Parquet file, or a `datasets.Dataset`."""

from __future__ import annotations

import difflib
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from maml_keras.data.columns import Column, column, joined

# Rows that a `datasets.Dataset` hands over at once.
ROWS_AT_ONCE = 10_000


def read_columns(
    data: Any,
    names: Sequence[str],
    *,
    text: Collection[str] = (),
    optional: Sequence[str] = (),
) -> dict[str, Column]:
    """Some columns of a table.

    Args:
        data: a `pandas.DataFrame`, a dict of columns, the path of a `.csv` or
            `.parquet` file or of a folder of Parquet files, or a `datasets.Dataset`.
            Parquet is read by row groups, so that only these columns are in memory.
        names: the columns to read.
        text: the columns whose values are names, also if they look like numbers.
        optional: further columns, which are read if all of them are there.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if a column is missing or holds values of other kinds.
    """
    pieces: dict[str, list[Column]] = {name: [] for name in names}
    rows = 0
    for frame in _frames(data, list(names), text, list(optional)):
        there = list(frame.columns)
        for name in names:
            _check_there(data, name, there)
        more = optional if set(optional) <= set(there) else ()
        for name in (*names, *more):
            pieces.setdefault(name, [])
            try:
                pieces[name].append(column(frame[name], as_text=name in text))
            except ValueError as error:
                raise _unfit(data, name, error, rows) from error
        rows += len(frame)
    found = {}
    for name, parts in pieces.items():
        try:
            found[name] = joined(parts)
        except ValueError as error:
            raise _unfit(data, name, error, 0) from error
    return found


def check_no_missing(column: Column, name: str, source: str) -> None:
    """Refuses a column with a missing value; the message names its row."""
    missing = column.missing
    if missing.any():
        raise ValueError(
            f"Column {name!r} of {source} must have a value in each row. Received: "
            f"{int(missing.sum())} missing, the first in row "
            f"{int(np.argmax(missing))}. Leave these rows out: "
            f"`df.dropna(subset=[{name!r}])`."
        )


def title(data: Any) -> str:
    """The table's name for messages: the file's name, or its type."""
    if isinstance(data, (str, pathlib.Path)):
        return pathlib.Path(data).name
    return f"the {type(data).__name__}"


def _frames(
    data: Any, names: list[str], text: Collection[str], optional: list[str]
) -> Iterator[Any]:
    """The table in pieces, each a DataFrame that holds the columns which are there."""
    pandas = _pandas()
    if isinstance(data, (str, pathlib.Path)):
        yield from _of_file(pathlib.Path(data), names, text, optional, pandas)
    elif isinstance(data, dict):
        parts = [k for k, v in data.items() if hasattr(v, "column_names")]
        if parts:
            raise ValueError(
                "`data` must be one table. Received: a dict of the tables "
                f"{', '.join(map(str, parts))}. Pass one of them, such as "
                f"data[{parts[0]!r}]."
            )
        yield pandas.DataFrame(data)
    elif hasattr(data, "column_names") and hasattr(data, "iter"):
        yield from _of_datasets(data, names, optional, pandas)
    elif hasattr(data, "column_names") and hasattr(data, "to_pandas"):  # pyarrow.
        for name in names:
            _check_there(data, name, data.column_names)
        there = [n for n in (*names, *optional) if n in data.column_names]
        yield data.select(there).to_pandas()
    elif isinstance(data, pandas.DataFrame):
        yield data
    else:
        raise ValueError(
            "`data` must be a pandas.DataFrame, a dict of columns, the path of a .csv "
            "or .parquet file, or a datasets.Dataset. Received: "
            f"{type(data).__name__}."
        )


def _of_file(
    path: pathlib.Path,
    names: list[str],
    text: Collection[str],
    optional: list[str],
    pandas: Any,
) -> Iterator[Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"`data` must be a .csv or .parquet file. Received: {path}, which does "
            "not exist."
        )
    if path.suffix == ".csv":
        # Categories such as 007 stay text.
        types = dict.fromkeys(text, str)
        try:
            yield pandas.read_csv(path, dtype=types, low_memory=False)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as CSV: {str(error).strip()}. Write it with "
                "`df.to_csv(path, index=False)`, or pass a DataFrame."
            ) from error
        return
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or files[0].suffix != ".parquet":
        raise ValueError(
            "`data` must be a .csv file, a .parquet file, or a folder of .parquet "
            f"files. Received: {path}. Read other files with pandas, and pass the "
            "DataFrame."
        )
    parquet = _parquet()
    for file in files:
        try:
            opened = parquet.ParquetFile(file)
        except (ValueError, OSError) as error:
            raise ValueError(f"{file} cannot be read as Parquet: {error}.") from error
        with opened:
            known = opened.schema_arrow.names
            for name in names:
                _check_there(file, name, known)
            there = [name for name in (*names, *optional) if name in known]
            for group in range(opened.num_row_groups):
                yield opened.read_row_group(group, columns=there).to_pandas()


def _of_datasets(
    data: Any, names: list[str], optional: list[str], pandas: Any
) -> Iterator[Any]:
    """A dataset of the package `datasets`; class numbers become class names."""
    # A stream does not know its columns after `map`, so its first row tells them.
    known = data.column_names or list(next(iter(data), {}))
    for name in names:
        _check_there(data, name, known)
    there = [name for name in (*names, *optional) if name in known]
    features = getattr(data, "features", None) or {}
    # Plain values, also if the user chose a format such as "numpy" or "arrow".
    for batch in data.select_columns(there).with_format(None).iter(ROWS_AT_ONCE):
        frame = pandas.DataFrame({name: list(batch[name]) for name in there})
        for name in there:
            classes = getattr(features.get(name), "names", None)
            if classes is not None:
                numbers = frame[name].where(frame[name] >= 0)  # -1 is missing.
                frame[name] = numbers.map(dict(enumerate(classes)))
        yield frame


def _check_there(data: Any, name: str, there: Sequence[str]) -> None:
    if name not in there:
        known = [str(other) for other in there]
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
        hint = f"Did you mean {near[0]!r}?" if near else "Give the name of a column."
        raise ValueError(
            f"{title(data)} must have a column {name!r}. Received: the columns "
            f"{', '.join(known[:12])}{', ...' if len(known) > 12 else ''}. {hint}"
        )


def _unfit(data: Any, name: str, error: ValueError, before: int) -> ValueError:
    since = f" (of a part that starts at row {before})" if before else ""
    return ValueError(
        f"Column {name!r} of {title(data)} must hold numbers, booleans, text or times. "
        f"It {error}{since}. Convert the column first, or name it in `categorical` if "
        "its values are names."
    )


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise _needs("pandas", "Tables") from error
    return pandas


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise _needs("pyarrow", "Parquet files") from error
    return pyarrow.parquet


def _needs(package: str, what: str) -> ImportError:
    return ImportError(
        f"{what} need the package {package}, which is not installed. Install it with "
        "`pip install 'maml_keras[tables]'`."
    )
