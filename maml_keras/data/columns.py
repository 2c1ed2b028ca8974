"""Columns of a table as NumPy arrays of numbers or of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Missing text. CSV cannot tell it from an empty text either.
NO_TEXT = ""


class Column(NamedTuple):
    """One column.

    Attributes:
        values: float64 `[rows]` with NaN for a missing number, or an object array of
            strings with `""` for a missing text.
        kind: `"number"`, `"flag"` (a boolean, as 0 or 1), `"time"` (seconds since
            1970) or `"text"`; `"empty"` if no row has a value.
    """

    values: Any
    kind: str

    @property
    def is_text(self) -> bool:
        """Whether the values are strings."""
        return self.kind == "text"

    @property
    def missing(self) -> Any:
        """Bool `[rows]`: whether the value is missing."""
        missing = self.values == NO_TEXT if self.is_text else np.isnan(self.values)
        return np.asarray(missing, bool)

    def take(self, rows: Any) -> Column:
        """The column of some rows, in the given order."""
        return self._replace(values=self.values[rows])


def column(series: Any, *, as_text: bool = False) -> Column:
    """A column of pandas as plain values.

    Args:
        series: a `pandas.Series` of any dtype.
        as_text: bool, whether numbers and booleans become text, as categories and
            names do. Whole numbers are written without a decimal point.

    Raises:
        ValueError: if the values are of a kind that is no number, boolean, text or
            time, or of several kinds; the message names the first such value.

    >>> import pandas as pd
    >>> column(pd.Series([3, None, 1], dtype="Int64"))
    Column(values=array([ 3., nan,  1.]), kind='number')
    >>> column(pd.Series([1.0, 2.0, None]), as_text=True).values.tolist()
    ['1', '2', '']
    """
    import pandas as pd

    missing = np.asarray(series.isna(), bool)
    if missing.all():
        return Column(np.full(len(series), np.nan), "empty")
    if isinstance(series.dtype, pd.CategoricalDtype):
        return _of_categories(series, missing)
    kind = _kind(series, missing)
    if as_text:
        return Column(_text(series, missing, kind), "text")
    if kind == "text":
        return Column(_strings(series.astype(object), missing), "text")
    if kind == "time":
        seconds = pd.to_datetime(series, utc=True).astype("datetime64[ns, UTC]")
        whole = seconds.astype("int64").to_numpy()
        return Column(np.where(missing, np.nan, whole / 1e9), "time")
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    if kind == "number" and not np.isfinite(values[~missing]).all():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise ValueError(f"holds {values[row]} in row {row}, which is not finite")
    return Column(values, kind)


def no_text(rows: int) -> Column:
    """A column of text without any value."""
    return Column(np.full(rows, NO_TEXT, object), "text")


def joined(pieces: Sequence[Column]) -> Column:
    """The pieces of one column, one after the other.

    Raises:
        ValueError: if one piece holds text and another one numbers.
    """
    known = {piece.kind for piece in pieces if piece.kind != "empty"}
    if len(known) > 1:
        raise ValueError(f"holds values of several kinds: {', '.join(sorted(known))}")
    kind = known.pop() if known else "empty"
    values = [
        no_text(len(p.values)).values
        if kind == "text" and p.kind == "empty"
        else p.values
        for p in pieces
    ]
    return Column(np.concatenate(values) if values else np.zeros(0), kind)


def _kind(series: Any, missing: Any) -> str:
    """The kind of a column that has a value and is not of categories."""
    from pandas.api import types

    if types.is_bool_dtype(series.dtype):
        return "flag"
    if types.is_numeric_dtype(series.dtype) and series.dtype.kind != "c":
        return "number"
    if types.is_datetime64_any_dtype(series.dtype):
        return "time"
    found = types.infer_dtype(series, skipna=True)
    kinds = {
        "string": "text",
        "boolean": "flag",
        "integer": "number",
        "floating": "number",
        "mixed-integer-float": "number",
        "decimal": "number",
        "datetime64": "time",
        "datetime": "time",
        "date": "time",
    }
    if found not in kinds:
        first = series[~missing].iloc[0]
        row = int(np.flatnonzero(~missing)[0])
        for other in np.flatnonzero(~missing):
            if type(series.iloc[other]) is not type(first):
                row = int(other)
                break
        value = series.iloc[row]
        raise ValueError(
            f"holds {found} values, such as {value!r} of type {type(value).__name__} "
            f"in row {row}"
        )
    return kinds[found]


def _of_categories(series: Any, missing: Any) -> Column:
    import pandas as pd

    categories = pd.Series(series.cat.categories)
    names = _text(categories, np.zeros(len(categories), bool), _kind(categories, []))
    # Each name is one object, however many rows have it.
    values = np.append(names, NO_TEXT)[np.where(missing, -1, series.cat.codes)]
    return Column(values, "text")


def _text(series: Any, missing: Any, kind: str) -> Any:
    if kind == "number":
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        if (numbers[~missing] % 1 == 0).all():
            series = series.astype("Int64")
    if kind == "flag":
        series = series.astype("boolean")
    return _strings(series.astype(object), missing)


def _strings(series: Any, missing: Any) -> Any:
    """An object array of strings, in which equal strings are one object."""
    values = np.full(len(series), NO_TEXT, object)
    known: dict[str, str] = {}
    plain = series.to_numpy()
    for row in np.flatnonzero(~missing):
        text = str(plain[row])
        values[row] = known.setdefault(text, text)
    return values
