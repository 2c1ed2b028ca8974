"""The figures of an evaluation, their intervals and the text that states them."""

import json

import numpy as np
import pytest

from maml_keras.evaluation.result import Evaluation, diverged_tasks, half_width


def test_half_width_is_of_the_mean():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=600)
    expected = (
        1.96 * np.sqrt(np.sum((values - values.mean()) ** 2) / 599) / np.sqrt(600)
    )
    assert half_width(values) == pytest.approx(expected, rel=1e-12)


def test_interval_covers_the_mean_95_times_in_100():
    draws = np.random.default_rng(0).normal(size=[4000, 100])
    covered = [abs(row.mean()) <= half_width(row) for row in draws]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_half_width_of_fewer_than_two_is_nan(values):
    assert np.isnan(half_width(values))


def fabricated(**kwargs):
    defaults = {
        "metric": "accuracy",
        "per_episode": np.array([[0.2, 0.8], [0.4, 0.6], [0.0, 0.4]]),
        "diverged_tasks": np.array([[False, False], [False, False], [False, True]]),
        "batch_norm": "running",
        "queries": 15,
        "higher_is_better": True,
    }
    return Evaluation(**{**defaults, **kwargs})


def test_figures_from_known_numbers():
    result = fabricated()
    np.testing.assert_allclose(result.curve, [0.2, 0.7])
    np.testing.assert_allclose(result.medians, [0.2, 0.6])
    np.testing.assert_allclose(
        result.half_width, 1.96 * np.std([0.8, 0.6], ddof=1) / 2**0.5
    )
    np.testing.assert_array_equal(result.diverged, [0, 1])


def test_diverged_task_counts_as_the_worst_in_the_median():
    lower = fabricated(metric="loss", higher_is_better=False)
    np.testing.assert_allclose(lower.medians, [0.2, 0.8])


def test_text_states_all_conditions_of_the_figure():
    text = str(fabricated())
    for part in (
        "accuracy 70.00% ± ",
        "95% CI over 3 tasks",
        "15 queries a task",
        "after 1 steps",
        "median 60.00%",
        "1 of 3 tasks diverged",
        "batch norm: running",
    ):
        assert part in text


def test_one_task_has_no_interval():
    one = fabricated(
        per_episode=np.array([[0.2, 0.8]]), diverged_tasks=np.zeros([1, 2], bool)
    )
    assert str(one).startswith("accuracy 80.00% ± none (95% CI over 1 task, ")
    assert "nan" not in one.table()


def test_no_task_has_no_mean():
    none = fabricated(diverged_tasks=np.ones([3, 2], bool))
    assert str(none).startswith("accuracy none ± none (95% CI over 3 tasks, ")
    assert "nan" not in none.table()


def test_summary_is_plain_data():
    summary = fabricated().summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["queries_per_task"] == 15
    assert summary["steps"] == [0, 1]
    assert summary["diverged_tasks"] == [0, 1]


def test_table_has_a_line_for_each_step():
    lines = fabricated().table().splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:2] == ["0", "20.00%"]
    assert lines[2].split()[:2] == ["1", "70.00%"]
    assert [line.split()[-1] for line in lines[1:]] == [fabricated().batch_norm] * 2


def test_without_a_direction_a_diverged_task_leaves_no_median():
    unknown = fabricated(metric="score", higher_is_better=None)
    assert unknown.medians[0] == pytest.approx(0.2)
    assert np.isnan(unknown.medians[1])
    assert unknown.summary()["median"][1] is None


def test_a_task_diverges_above_a_hundred_times_the_first_loss():
    loss = np.array([[1.0, 99.0], [1.0, 101.0]])
    assert diverged_tasks(loss, loss).tolist() == [[False, False], [False, True]]
