"""`from_table` sorts rows into tasks, and names what does not fit."""

import numpy as np
import pandas as pd
import pytest

from maml_keras.data import (
    FewExamples,
    TablePreparation,
    audit,
    from_table,
    split_tasks,
)


def frame():
    """Three countries with 3, 2 and 1 rows, out of order."""
    return pd.DataFrame(
        {
            "country": ["x", "y", "x", "z", "y", "x"],
            "year": [3, 1, 1, 1, 0, 2],
            "day": ["2020-01-03", "2020-01-01", "2020-01-01"] + ["2020-01-02"] * 3,
            "income": ["lo", "hi", None, "lo", "lo", "hi"],
            "gdp": [1.0, 2.0, 3.0, np.nan, 5.0, 6.0],
            "life": [50.0, 60.0, 70.0, 80.0, 90.0, 40.0],
            "region": ["A", "B", "A", "A", "B", "A"],
        }
    )


def made(data=None, **changes):
    settings = {
        "task": "country",
        "inputs": ["year", "gdp"],
        "target": "life",
        "missing": "mean",
        "at_least": 1,
    }
    return from_table(frame() if data is None else data, **{**settings, **changes})


def test_rows_are_sorted_by_task_and_time():
    table = made(order="year", categorical=["income"], groups="region")
    assert table.names == ("x", "y", "z")
    assert table.counts.tolist() == [3, 2, 1]
    assert table.offsets.tolist() == [0, 3, 5]
    assert table.rows.tolist() == [2, 5, 0, 4, 1, 3]
    assert table.targets["life"].values.tolist() == [70, 40, 50, 90, 60, 80]
    assert table.inputs["income"].values.tolist() == ["", "hi", "lo", "lo", "hi", "lo"]
    assert list(table.inputs) == ["year", "gdp", "income"]
    assert table.groups == ("A", "B", "A")


def test_without_an_order_rows_keep_theirs():
    assert made().rows.tolist() == [0, 2, 5, 1, 4, 3]


def test_dates_order_also_as_text():
    as_text = made(order="day").rows.tolist()
    times = frame().assign(day=pd.to_datetime(frame().day))
    assert as_text == made(times, order="day").rows.tolist() == [2, 5, 0, 1, 4, 3]


def test_tasks_that_are_too_small_are_counted_and_named():
    table = made(at_least=3)
    assert table.names == ("x",)
    assert table.too_small == {"y": 2, "z": 1}
    assert "left out as too small: 'y' (2), 'z' (1)" in repr(table)
    with pytest.raises(ValueError, match="the largest task of the DataFrame has 3"):
        made(at_least=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"missing": "refuse"}, r"Column 'gdp' .*1 missing, the first in row 3.*mean'"),
        ({"target": "gdp", "inputs": ["year"]}, "Column 'gdp' .*row 3. Leave these"),
        ({"target": "life", "inputs": ["life"]}, "'life' twice. A network that sees"),
        ({"inputs": ["country"]}, "'country' twice"),
        ({"inputs": []}, "`inputs` must name a column"),
        ({"target": []}, "`target` must name a column"),
        ({"inputs": "year"}, r"list of columns.*Pass inputs=\['year'\]"),
        ({"groups": "income"}, "Column 'income' .*1 missing, the first in row 2"),
        ({"groups": "gdp"}, "Column 'gdp' of the DataFrame must have a value"),
        ({"groups": "day"}, r"one value for each task.*row 2 of .*country 'x'"),
        ({"order": "region"}, "'A' in row 0. Convert the column"),
        ({"missing": "zero"}, "`missing` must be one of 'refuse', 'mean'"),
        ({"unknown": "maybe"}, "`unknown` must be one of 'refuse', 'zeros'"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_columns_that_cannot_be_inputs():
    times = frame().assign(day=pd.to_datetime(frame().day), none=None)
    with pytest.raises(ValueError, match="Received: times. Make a number of it"):
        made(times, inputs=["day"])
    with pytest.raises(ValueError, match="Received: none in any row. Leave it out"):
        made(times, inputs=["none"])
    with pytest.raises(ValueError, match="without rows"):
        made(frame()[:0])
    with pytest.raises(ValueError, match="must have names. Received: 7"):
        made(frame().rename(columns={"gdp": 7}), inputs=["year", 7])


def test_rows_without_a_target_are_left_out_and_counted():
    data = {
        "shop": list("ccaabbb"),
        "area": list("uuvvwww"),
        "size": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        "sales": [None, None, 1.0, None, 2.0, 3.0, 4.0],
    }
    how = {"task": "shop", "inputs": ["size"], "target": "sales", "groups": "area"}
    with pytest.raises(ValueError, match="3 missing, the first in row 0.*dropna"):
        from_table(data, **how)
    made = from_table(data, **how, missing_target="leave_out", at_least=1)
    assert made.names == ("a", "b")
    assert made.groups == ("v", "w")
    assert made.targets["sales"].values.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert made.rows.tolist() == [2, 4, 5, 6]
    assert made.place(1) == "row 4 of the dict (shop 'b')"
    assert "left out without a target: 3 rows; left out as too small: 'c' (0)" in repr(
        made
    )
    data["sales"] = [None] * 7
    with pytest.raises(ValueError, match="must have a row with all of sales"):
        from_table(data, **how, missing_target="leave_out")


def test_missing_tasks_are_refused():
    with pytest.raises(ValueError, match="'country' .*1 missing, the first in row 1"):
        made(frame().assign(country=["x", None, "x", "z", "y", "x"]))


def masked_rows():
    data = {
        "shop": list("ccaabbb"),
        "size": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        "sales": [None, None, 1.0, None, 2.0, 3.0, 4.0],
        "visits": [None, 7.0, None, 9.0, 1.0, None, 2.0],
    }
    how = {"task": "shop", "inputs": ["size"], "target": ["sales", "visits"]}
    return data, how


def test_a_row_with_one_of_several_targets_stays_under_mask():
    data, how = masked_rows()
    with pytest.raises(ValueError, match="'sales' .*3 missing, the first in row 0"):
        from_table(data, **how)
    left = from_table(data, **how, missing_target="leave_out", at_least=1)
    assert left.rows.tolist() == [4, 6]
    made = from_table(data, **how, missing_target="mask", at_least=1)
    assert made.rows.tolist() == [2, 3, 4, 5, 6, 1]
    assert made.unlabelled == 1
    np.testing.assert_array_equal(
        made.targets["visits"].values, [np.nan, 9.0, 1.0, np.nan, 2.0, 7.0]
    )
    # Each target is scaled by the rows that have it.
    preparation = TablePreparation.fit(made)
    assert preparation.target_columns.mean == [2.5, 4.75]
    _, y = preparation.raw(data)
    assert np.isnan(y).sum() == 6
    x, y = preparation.labelled(*preparation.raw(data))
    assert x["size"].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
    scaled = preparation.targets(y)
    np.testing.assert_allclose(preparation.restored(scaled), y, rtol=1e-6)
    data["sales"] = data["visits"] = [None] * 7
    with pytest.raises(ValueError, match="a row with a target among sales, visits"):
        from_table(data, **how, missing_target="mask")


def test_labels_may_be_missing_under_mask():
    data, how = masked_rows()
    sales = [None, None, True, None, True, False, False]
    data["sales"] = pd.array(sales, dtype="boolean")
    data["visits"] = pd.array([None, *[True, False] * 3], dtype="boolean")
    made = from_table(data, **how, missing_target="mask", at_least=1)
    preparation = TablePreparation.fit(made)
    _, y = preparation.labelled(*preparation.raw(data))
    prepared = preparation.targets(y).numpy()
    np.testing.assert_array_equal(prepared[:, 0], [np.nan, 1.0, np.nan, 1.0, 0.0, 0.0])
    with pytest.raises(Exception, match="0 or 1"):
        preparation.targets(np.array([[0.5, np.nan]], "float32"))


def test_an_audit_takes_masked_targets_for_what_they_are():
    data, how = masked_rows()
    rows = {name: list(values) * 6 for name, values in data.items()}
    rows["shop"] = [f"{s}{i // 7}" for i, s in enumerate(rows["shop"])]
    rows["size"] = [float(i) for i in range(42)]
    table = from_table(rows, **how, missing_target="mask", at_least=2)
    train, _, test = split_tasks(table, train=8, validation=0, test=4)
    tasks = FewExamples(train, shots=1, queries=1)
    report = audit(tasks, test=FewExamples(test, shots=1, queries=1))
    assert "NaN" not in str(report)
