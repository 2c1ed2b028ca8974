"""Episodes of a table: rows of one task, apart, in time, the same for ever."""

import numpy as np
import pytest

from maml_keras.data import FewExamples, episodes, from_table, split_tasks


def table(counts=(4, 7, 5, 9), order=None, **kwargs):
    """The target of row i of task t is `100 t + i`; its time runs backwards."""
    task = np.repeat(np.arange(len(counts)), counts)
    row = np.concatenate([np.arange(c) for c in counts])
    data = {
        "task": [f"t{t}" for t in task],
        "time": -row,
        "x": np.sin(100.0 * task + row),
        "y": 100.0 * task + row,
    }
    made = from_table(data, task="task", inputs=["x"], target="y", order=order)
    return split_tasks(made, train=None, validation=0, test=["t0"])[0], made


def drawn(family, count=200, seed=1):
    """Raw targets of the support and query rows of many episodes, and the tasks."""
    task, query_y = family.sample_many([seed, 0], count)
    restored = family.preparation.restored
    # The target of a row is its name, up to rounding.
    names = [np.rint(restored(y)[..., 0]) for y in (task["support_y"], query_y)]
    return *names, task


@pytest.mark.parametrize("order", [None, "time"])
def test_rows_are_of_one_task_and_apart(order):
    train, _ = table(order=order)
    support, query, task = drawn(FewExamples(train, shots=2, queries=3))
    rows = np.concatenate([support, query], axis=1)
    assert all(len(set(r)) == 5 for r in rows.tolist())
    assert (np.unique(rows // 100, axis=1) == rows[:, :1] // 100).all()
    assert set((rows[:, 0] // 100).tolist()) == {1, 2, 3}
    assert "query_weight" not in task
    # Inputs belong to the targets.
    inputs = train.preparation.inputs({"x": np.sin(support.ravel()).astype("float32")})
    np.testing.assert_allclose(
        task["support_x"].numpy().ravel(), inputs[:, 0], atol=1e-4
    )
    if order:  # Time runs backwards over the rows.
        assert (support.min(axis=1) > query.max(axis=1)).all()


def test_draws_are_uniform_over_tasks_and_rows():
    train, _ = table(counts=(4, 3, 6))
    support, query, _ = drawn(FewExamples(train, shots=1, queries=2), count=6000)
    _, tasks = np.unique(support // 100, return_counts=True)
    # Binomial with p = 1/2: the standard deviation is 39.
    assert abs(tasks - 3000).max() < 4 * 39
    for rows in (support, query[:, :1]):
        names, counts = np.unique(rows, return_counts=True)
        assert len(names) == 9
        expected = np.where(names // 100 == 1, 1000, 500)
        assert abs(counts - expected).max() < 4 * np.sqrt(1000)


def test_rest_takes_every_other_row_and_marks_padding():
    train, made = table()
    support, query, task = drawn(FewExamples(train, shots=2, queries="rest"))
    sizes = dict(zip([1, 2, 3], made.counts[1:]))
    for s, q, there in zip(support, query, task["query_weight"].numpy().astype(bool)):
        number = int(s[0] // 100)
        rows = {*s.tolist(), *q[there].tolist()}
        assert rows == {100 * number + i for i in range(sizes[number])}
        assert there.sum() == sizes[number] - 2
    assert len(np.unique(np.sort(support), axis=0)) > 30


def test_rest_in_order_learns_from_the_first_rows():
    train, made = table(order="time")
    family = FewExamples(train, shots=2, queries="rest")
    support, query, task = drawn(family)
    sizes = dict(zip([1, 2, 3], made.counts[1:]))
    for s, q, there in zip(support, query, task["query_weight"].numpy().astype(bool)):
        number = int(s[0] // 100)
        last = 100 * number + sizes[number] - 1
        assert s.tolist() == [last, last - 1]
        assert q[there].tolist() == list(range(last - 2, 100 * number - 1, -1))
    assert family.distinct_tasks() == 3
    assert FewExamples(train, shots=2, queries=2).distinct_tasks() is None


def test_an_episode_depends_on_seed_and_index_alone():
    train, _ = table()
    family = FewExamples(train, shots=2, queries=2)
    whole = np.concatenate(
        [y for _, y in episodes(family, batch_size=50, seed=5, num_episodes=100)]
    )
    later = next(iter(episodes(family, batch_size=7, seed=5, start=64)))[1]
    np.testing.assert_array_equal(later, whole[64:71])
    other = next(iter(episodes(family, batch_size=50, seed=6)))[1]
    assert not np.array_equal(other, whole[:50])


def test_many_rows_a_task_are_planned_a_few_tasks_at_a_time():
    train, _ = table(counts=(4, 300_000))
    assert FewExamples(train, shots=2, queries=2).chunk == 2**22 // 300_000


def test_what_does_not_fit_is_refused():
    train, made = table()
    with pytest.raises(ValueError, match="must have a preparation.*split_tasks"):
        FewExamples(made)
    with pytest.raises(ValueError, match="must be a TaskTable. Received: type dict"):
        FewExamples({})
    with pytest.raises(ValueError, match=r"1 of 3 tasks with fewer: 't2' \(5\)"):
        FewExamples(train, shots=3, queries=3)
    with pytest.raises(ValueError, match=r"shots=9 and queries='rest' .*: 10 rows"):
        FewExamples(train, shots=9, queries="rest")
    with pytest.raises(ValueError, match="`queries` must be .* or 'rest'. Received: 0"):
        FewExamples(train, shots=3, queries=0)
    with pytest.raises(ValueError, match="must have tasks"):
        FewExamples(train.select([]), shots=3)
