"""Means over seeds and tasks: their intervals against closed forms and simulations."""

import builtins

import numpy as np
import pytest
from scipy import stats

from maml_keras.evaluation.over_seeds import (
    SeedMean,
    check_intervals,
    probability_of_better,
)


def drawn(rng, seeds, tasks, of_seed, of_task, of_rest):
    return (
        rng.normal(scale=of_seed, size=[seeds, 1])
        + rng.normal(scale=of_task, size=[1, tasks])
        + rng.normal(scale=of_rest, size=[seeds, tasks])
    )


def test_over_seeds_and_over_tasks_are_students_intervals_of_their_means():
    x = drawn(np.random.default_rng(0), 4, 30, 1.0, 2.0, 0.5)
    found = SeedMean.of(x)
    for half, means in ((found.over_seeds, x.mean(1)), (found.over_tasks, x.mean(0))):
        low, high = stats.t.interval(
            0.95, len(means) - 1, loc=means.mean(), scale=stats.sem(means)
        )
        np.testing.assert_allclose([found.mean - half, found.mean + half], [low, high])


@pytest.mark.parametrize(
    ("of_seed", "of_task"), [(1.0, 3.0), (0.2, 3.0), (2.0, 0.5), (0.0, 3.0)]
)
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_for_new_runs_and_tasks_holds_the_truth_95_times_of_100(
    seeds, of_seed, of_task
):
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        found = SeedMean.of(drawn(rng, seeds, 60, of_seed, of_task, 1.0))
        held += abs(found.mean) <= found.half_width
    # Satterthwaite's approximation is careful where seeds matter little.
    assert 0.91 <= held / 300 <= 0.997


def test_little_that_is_left_of_a_subtraction_makes_no_huge_interval():
    # Each seed is good at another task; the seeds' own square is 1.01 times the rest's.
    x = np.array([[1.0, -1.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0]])
    x[0] += np.sqrt(1.01 * 2 / 3)
    found = SeedMean.of(x)
    assert found.half_width == found.over_seeds
    np.testing.assert_allclose(found.over_seeds, 5.216, rtol=1e-3)  # 12.7 sqrt(s / 8)


def test_with_many_seeds_the_interval_is_that_of_a_bootstrap_of_seeds_and_tasks():
    x = drawn(np.random.default_rng(2), 60, 80, 1.0, 2.0, 0.5)
    both = stats.bootstrap(
        (np.arange(60), np.arange(80)),
        lambda seeds, tasks: x[np.ix_(seeds, tasks)].mean(),
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    expected = (both.high - both.low) / 2
    np.testing.assert_allclose(SeedMean.of(x).half_width, expected, rtol=0.08)


def test_equal_runs_have_no_interval_over_seeds():
    x = np.tile([1.0, 2.0, 4.0], [3, 1])
    found = SeedMean.of(x)
    assert found.over_seeds == 0.0
    np.testing.assert_allclose(found.half_width, found.over_tasks)


def test_one_run_or_one_task_has_no_interval():
    for x in ([[1.0, 2.0]], [[1.0], [2.0]]):
        found = SeedMean.of(x)
        assert found.mean == 1.5
        assert np.isnan([found.over_seeds, found.over_tasks, found.half_width]).all()


def test_the_probability_counts_pairs_of_runs():
    # Pairs: 3 > 1, 3 > 2, 3 = 3, 0 < 1, 0 < 2, 0 < 3.
    found = probability_of_better([3.0, 0.0], [1.0, 2.0, 3.0], higher_is_better=True)
    assert found == pytest.approx(2.5 / 6)
    lower = probability_of_better([3.0, 0.0], [1.0, 2.0, 3.0], higher_is_better=False)
    assert found + lower == pytest.approx(1.0)
    # The statistic of Mann and Whitney over the number of pairs.
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(0.3, 1, 9), rng.normal(size=7)
    u = stats.mannwhitneyu(ours, theirs).statistic
    assert probability_of_better(ours, theirs, True) == pytest.approx(u / 63)


def test_without_scipy_a_sentence_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'maml_keras\[seeds\]'"):
        check_intervals()
