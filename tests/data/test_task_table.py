"""Tasks of a table are selected with all their rows."""

import numpy as np
import pytest

from maml_keras.data import from_table
from maml_keras.data.task_table import check_task_sizes


def table():
    data = {
        "task": list("aabbbc"),
        "x": np.arange(6.0),
        "y": np.arange(6.0) * 10,
        "group": list("PPQQQP"),
    }
    return from_table(
        data, task="task", inputs=["x"], target="y", groups="group", at_least=1
    )


def test_selection_keeps_rows_names_and_groups():
    chosen = table().select([2, 0])
    assert chosen.names == ("c", "a")
    assert chosen.groups == ("P", "P")
    assert chosen.inputs["x"].values.tolist() == [5, 0, 1]
    assert chosen.targets["y"].values.tolist() == [50, 0, 10]
    assert chosen.counts.tolist() == [1, 2]
    assert chosen.rows.tolist() == [5, 0, 1]
    assert chosen.place(1) == "row 0 of the dict (task 'a')"
    assert repr(table().select([])) == "TaskTable(no tasks from the dict)"
    for wrong in ([3], [0, 0], [-1]):
        with pytest.raises(ValueError, match=r"different integers in \[0, 3\)"):
            table().select(wrong)


def test_small_tasks_are_dropped_or_refused_by_name():
    left = table().drop_smaller_than(3)
    assert left.names == ("b",)
    assert left.too_small == {"a": 2, "c": 1}
    with pytest.raises(ValueError, match=r"2 of 3 tasks with fewer: 'a' \(2\), 'c'"):
        check_task_sizes(table(), 3, "shots=1 and queries=2")
    check_task_sizes(table(), 1, "")
