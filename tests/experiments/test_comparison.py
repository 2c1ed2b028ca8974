"""The result of a comparison: paired differences and the table."""

import numpy as np
import pytest

from maml_keras.evaluation.result import Evaluation, half_width
from maml_keras.experiments.comparison import Comparison
from maml_keras.experiments.own_settings import Choice, Grid


def evaluation(values, diverged=(), metric="loss"):
    values = np.asarray(values, dtype=float)[:, None]
    lost = np.zeros_like(values, dtype=bool)
    lost[list(diverged)] = True
    better = metric == "accuracy"
    return Evaluation(metric, values, lost, "transductive", 5, better)


def test_differences_are_paired():
    # The tasks differ by tens; on each task the algorithms differ by about one.
    tasks = np.array([10.0, 20.0, 30.0, 40.0])
    gap = np.array([1.0, 1.2, 0.8, 1.0])
    results = {"a": evaluation(tasks), "b": evaluation(tasks + gap)}
    comparison = Comparison(results, {"a": 1, "b": 1}, {"a": 1.0, "b": 1.0})
    mean, half = comparison.difference("b")
    np.testing.assert_allclose([mean, half], [1.0, half_width(gap)], rtol=1e-9)
    assert half < 0.1 * half_width(tasks)


def test_a_task_that_diverged_for_either_is_left_out():
    results = {
        "a": evaluation([1.0, 2.0, 3.0, 900.0], diverged=[3]),
        "b": evaluation([2.0, 3.0, 500.0, 5.0], diverged=[2]),
    }
    comparison = Comparison(results, {"a": 1, "b": 1}, {"a": 1.0, "b": 1.0})
    assert comparison.difference("b") == (1.0, 0.0)


def test_the_row_of_a_baseline_ends_after_the_steps_that_it_chose():
    values = np.arange(4.0)[:, None] + [[8.0, 4.0, 2.0, 9.0]]
    lost = np.zeros_like(values, dtype=bool)
    longer = Evaluation("loss", values, lost, "transductive", 5, False)
    reference = longer.until(1)
    times = {"a": 1.0, "b": 1.0}
    comparison = Comparison(
        {"a": reference, "b": longer},
        {"a": 1, "b": 1},
        times,
        {"b": Choice(0.1, 2)},
        Grid((0.03, 0.1, 0.3), (0, 1, 2)),
    )
    assert comparison.difference("b") == (-2.0, 0.0)
    assert comparison.difference("b", 1) == (0.0, 0.0)
    head, _, a, b = comparison.table().splitlines()
    assert "step 0 | step 1 | own choice | median | diverged | end - a |" in head
    assert "| 5.5 ± 1.27 |  | 5.5 | 0 |  |" in a
    assert "| 5.5 ± 1.27 | 3.5 ± 1.27 (2 steps of 0.1) | 3.5 | 0 | -2 ± 0 |" in b
    assert str(comparison).endswith(
        "b chose on 100 validation tasks from rates 0.03, 0.1, 0.3; steps 0, 1, 2; at "
        "the end of this grid, b chose the most steps: a larger grid may be better"
    )
    assert comparison.summary()["b"]["differences"] == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("metric", "mean"), [("accuracy", "30.0% ± 19.6%"), ("loss", "0.3 ± 0.196")]
)
def test_the_table_states_that_most_tasks_diverged(metric, mean):
    values = [0.2, 0.4, 0.9, 0.9, 0.9]
    results = {
        "a": evaluation([0.5] * 5, metric=metric),
        "b": evaluation(values, diverged=[2, 3, 4], metric=metric),
        "c": evaluation(values, diverged=range(5), metric=metric),
    }
    counts = dict.fromkeys(results, 1)
    comparison = Comparison(results, counts, dict.fromkeys(results, 1.0))
    _, _, a, b, c = comparison.table().splitlines()
    assert "tasks" not in a
    assert a.endswith("| transductive |")
    assert f"| {mean} (2 tasks) | diverged | 3 of 5 |" in b
    assert "| diverged | diverged | 5 of 5 | no task in common |" in c
    for text in (comparison.table(), str(results["b"]), results["b"].table()):
        assert "inf" not in text
    assert "median diverged" in str(results["b"])
    assert comparison.summary()["c"]["difference"] == [None, None]
