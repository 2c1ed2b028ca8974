"""Columns of pandas become numbers or text, whatever their type."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from maml_keras.data.columns import column, joined

NAN = float("nan")


@pytest.mark.parametrize(
    ("series", "kind", "values"),
    [
        (pd.Series([1, 2], dtype="int16"), "number", [1, 2]),
        (pd.Series([1, None], dtype="Int64"), "number", [1, NAN]),
        (pd.Series([0.5, None]), "number", [0.5, NAN]),
        (pd.Series([0.5, None], dtype="Float32"), "number", [0.5, NAN]),
        (pd.Series([1, 2.5, None], dtype=object), "number", [1, 2.5, NAN]),
        (pd.Series([decimal.Decimal("1.5"), None]), "number", [1.5, NAN]),
        (pd.Series([True, False]), "flag", [1, 0]),
        (pd.Series([True, None], dtype="boolean"), "flag", [1, NAN]),
        (pd.Series([True, None], dtype=object), "flag", [1, NAN]),
        (pd.Series(["a", None]), "text", ["a", ""]),
        (pd.Series(["a", None], dtype=object), "text", ["a", ""]),
        (pd.Series(["b", None, "a", "b"], dtype="category"), "text", [*"b", "", *"ab"]),
        (pd.Series([3, 1, 3], dtype="category"), "text", ["3", "1", "3"]),
        (pd.to_datetime(pd.Series(["1970-01-02", None])), "time", [86400, NAN]),
        (pd.Series([datetime.date(1970, 1, 2)]), "time", [86400]),
        (pd.Series([None, None], dtype=object), "empty", [NAN, NAN]),
    ],
)
def test_every_type_of_pandas(series, kind, values):
    found = column(series)
    assert found.kind == kind
    if kind == "text":
        assert found.values.tolist() == values
    else:
        np.testing.assert_array_equal(found.values, values)
    assert found.missing.tolist() == series.isna().tolist()


@pytest.mark.parametrize(
    "series",
    [
        pd.Series([1, 2, None]),  # pandas makes floats of these.
        pd.Series([1, 2, None], dtype="Int8"),
        pd.Series(["1", "2", None]),
    ],
)
def test_whole_numbers_as_text_have_no_point(series):
    assert column(series, as_text=True).values.tolist() == ["1", "2", ""]


def test_booleans_as_text():
    found = column(pd.Series([True, None], dtype=object), as_text=True)
    assert found.values.tolist() == ["True", ""]


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (pd.Series([1.0, np.inf]), "holds inf in row 1, which is not finite"),
        (pd.Series(["a", 1]), "holds mixed-integer values, such as 1 of type int"),
        (pd.Series([[1], [2]]), r"holds mixed values, such as \[1\] of type list in"),
        (pd.Series([1j]), "holds complex values"),
    ],
)
def test_other_values_are_refused_with_their_row(series, message):
    with pytest.raises(ValueError, match=message):
        column(series)


def test_pieces_without_values_take_the_kind_of_the_others():
    pieces = [pd.Series([None]), pd.Series(["a"])]
    assert joined(list(map(column, pieces))).values.tolist() == ["", "a"]
    numbers = joined([column(pd.Series([None])), column(pd.Series([1.0]))])
    np.testing.assert_array_equal(numbers.values, [NAN, 1.0])
    with pytest.raises(ValueError, match="several kinds: number, text"):
        joined([column(pd.Series([1])), column(pd.Series(["a"]))])
