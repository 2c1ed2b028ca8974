"""Evaluation on new tasks: the figure, its interval, and its conditions."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    CountedMSE,
    assert_identical,
    batch_normalised,
    classification,
    dense,
    maml,
    numpy_variables,
    plain_query_loss,
    regression,
)

from maml_keras.data import Sinusoid, episodes
from maml_keras.evaluation.evaluate import evaluate_episodes
from maml_keras.evaluation.result import diverged_tasks
from maml_keras.evaluation.trace import trace_inner_loop

pytestmark = pytest.mark.usefixtures("without_graphs")

SCCE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def evaluated(model, *batches, **kwargs):
    return evaluate_episodes(model, batches, verbose=0, **kwargs)


@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
def test_curve_is_the_plain_query_loss_after_each_step(task_map):
    model, batch = dense(), regression(tasks=3)
    start = [v.numpy() for v in model.trainable_variables]
    result = evaluated(maml(model, task_map=task_map), batch, steps=3)
    expected = [plain_query_loss(model, batch, start, steps=k) for k in range(4)]
    np.testing.assert_allclose(result.curve, expected, rtol=1e-5)  # float32
    assert result.per_episode.shape == (3, 4)
    assert result.mean == result.curve[-1]
    assert (result.steps, result.num_tasks, result.queries) == (3, 3, 3)


@pytest.mark.parametrize("sizes", [(5, 1), (1, 5), (5, 3, 1)])
def test_the_number_of_queries_covers_all_batches(sizes):
    batches = [regression(queries=n, seed=n) for n in sizes]
    model = maml(dense())
    result = evaluate_episodes(model, batches, verbose=0)
    assert result.queries == (1, 5)
    assert "1 to 5 queries a task" in str(result)
    assert result.caption == "1 to 5 queries a task, together; batch norm: transductive"
    assert json.loads(json.dumps(result.summary()))["queries_per_task"] == [1, 5]
    trace = trace_inner_loop(model, batches, verbose=0)
    assert trace.queries == (1, 5)
    # All tasks kept for pictures have the size of the first batch's.
    assert trace.examples["query_x"].shape[:2] == (2, sizes[0])


def test_one_query_is_written_in_the_singular():
    result = evaluate_episodes(maml(dense()), [regression(queries=1)], verbose=0)
    assert result.queries == 1
    assert "1 query a task" in str(result)


def test_last_point_of_the_curve_equals_evaluate():
    model, batch = maml(batch_normalised(), steps=2), regression()
    model.compile("sgd")
    result = evaluated(model, batch)
    np.testing.assert_allclose(
        result.mean, model.evaluate(*batch, verbose=0), rtol=1e-5
    )


def test_step_zero_is_before_adaptation():
    model, (task, query_y) = dense(), regression()
    predictions = model(task["query_x"].reshape(-1, 3)).numpy().reshape(2, 3, 2)
    result = evaluated(maml(model), (task, query_y), steps=5)
    np.testing.assert_allclose(
        result.per_episode[:, 0],
        np.square(predictions - query_y).mean((1, 2)),
        rtol=1e-5,
    )


def test_number_of_tasks_is_exact_over_batches():
    batches = [regression(tasks=3, seed=i) for i in range(4)]
    model = maml(dense())
    result = evaluated(model, *batches, num_tasks=7)
    assert result.num_tasks == 7
    assert_identical(result.per_episode, evaluated(model, *batches).per_episode[:7])


def test_fewer_tasks_than_asked_are_counted():
    result = evaluated(maml(dense()), regression(tasks=3), num_tasks=600)
    assert result.num_tasks == 3
    assert "over 3 tasks" in str(result)


def test_same_tasks_give_the_same_numbers_and_change_nothing():
    batches = episodes(Sinusoid(), batch_size=4, seed=1, num_episodes=12)
    model = maml(batch_normalised(1, 1))
    before = numpy_variables(model)
    first = evaluate_episodes(model, batches, verbose=0).per_episode
    second = evaluate_episodes(model, batches, verbose=0).per_episode
    np.testing.assert_array_equal(first, second)
    assert_identical(before, numpy_variables(model))


def test_evaluation_follows_the_weights():
    model, batch = maml(dense()), regression()
    model.compile(keras.optimizers.SGD(0.1))
    before = evaluated(model, batch).mean
    model.train_on_batch(*batch)
    assert evaluated(model, batch).mean != before


@pytest.mark.graphs
def test_it_is_traced_once():
    counted = CountedMSE()
    model = maml(dense(), loss=counted)
    evaluated(model, regression())
    traced = counted.calls
    evaluated(model, regression(seed=1), regression(seed=2))
    assert counted.calls == traced > 0


def exploding():
    """Two ordinary tasks, and one whose inputs make every step overshoot."""
    task, query_y = regression(tasks=3, support=4, queries=3)
    task["support_x"][2] *= 50.0
    return task, query_y


def test_diverged_tasks_are_counted_and_left_out_of_the_mean():
    net = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    result = evaluated(maml(net), exploding(), steps=20)
    np.testing.assert_array_equal(result.diverged, [0] + [1] * 20)
    assert not np.isfinite(result.per_episode[2, -1])
    np.testing.assert_allclose(result.mean, result.per_episode[:2, -1].mean())
    np.testing.assert_allclose(result.medians[-1], result.per_episode[:2, -1].max())
    assert np.isfinite(result.half_width)
    assert "1 of 3 tasks diverged" in str(result)


def test_if_all_tasks_diverge_there_is_no_mean():
    net = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    result = evaluated(maml(net, rate=1e6), regression(), steps=20)
    assert result.diverged[-1] == 2
    assert np.isnan(result.mean)
    assert result.summary()["mean"][-1] is None
    assert "2 of 2 tasks diverged" in str(result)


def test_no_episode_is_refused():
    with pytest.raises(ValueError, match="must hold at least one batch"):
        evaluated(maml(dense()))


def test_one_batch_in_place_of_many_is_refused():
    with pytest.raises(ValueError, match=r"Put it into a list: `\[batch\]`"):
        evaluate_episodes(maml(dense()), regression(), verbose=0)


def test_batches_without_targets_are_refused():
    with pytest.raises(ValueError, match=r"pair \(task, query_y\).*no query_y"):
        evaluate_episodes(maml(dense()), [regression()[0]], verbose=0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_tasks": 0}, "`num_tasks` must be positive. Received: 0"),
        ({"steps": -1}, "`steps` must be an integer"),
        ({"metric": "f1"}, "`metric` must be.*metric='f1'"),
        ({"metric": keras.metrics.MeanSquaredError()}, "would add up the values"),
    ],
)
def test_wrong_argument_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        evaluated(maml(dense()), regression(), **kwargs)


def test_the_bar_ends_with_the_figure_and_a_line_break(capsys):
    batches = [regression(tasks=2, seed=seed) for seed in range(3)]
    result = evaluate_episodes(maml(dense()), batches, num_tasks=50, verbose=1)
    shown = capsys.readouterr().out
    assert shown.endswith("\n")
    assert "6/6" in shown
    assert f"{result.curve[-1]:.4f}" in shown.rpartition("6/6")[2]


@pytest.mark.parametrize("listed", [True, False], ids=["list", "dataset"])
def test_the_bar_counts_to_the_number_of_existing_tasks(listed, capsys):
    batches = [regression(tasks=2, seed=seed) for seed in range(3)]
    if not listed:
        whole = tf.nest.map_structure(lambda *a: np.concatenate(a), *batches)
        batches = tf.data.Dataset.from_tensor_slices(whole).batch(2)
    evaluate_episodes(maml(dense()), batches, num_tasks=600, verbose=1)
    shown = capsys.readouterr().out
    assert "2/6" in shown
    assert "/600" not in shown
    assert shown.count("\n") == 1


@pytest.mark.graphs  # Keras draws no bar twice within a twentieth of a second.
def test_the_bar_stays_on_its_line_if_the_first_batch_is_the_smallest(capsys):
    batches = [regression(tasks=tasks) for tasks in (1, 3, 2)]
    evaluate_episodes(maml(dense()), batches, num_tasks=600, verbose=1)
    shown = capsys.readouterr().out
    assert all(count in shown for count in ("1/3", "4/7", "6/6"))
    assert shown.count("\n") == 1


def test_only_nan_gives_no_warning(recwarn):
    learner = maml(dense())
    for variable in learner.model.trainable_variables:
        variable.assign(np.full(variable.shape, np.nan))
    result = evaluate_episodes(learner, [regression()], verbose=0)
    assert (result.diverged == result.num_tasks).all()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_the_bar_leaves_diverged_tasks_out_as_the_result_does(capsys):
    task, query_y = regression(tasks=4)
    task["support_y"][0] *= 1e6  # One step diverges, with a finite loss.
    result = evaluate_episodes(maml(dense()), [(task, query_y)], verbose=1)
    assert result.diverged[-1] == 1
    assert np.isfinite(result.per_episode).all()
    assert f"{result.mean:.4f}" in capsys.readouterr().out


def test_a_negative_loss_diverges_only_if_it_is_not_finite():
    task, query_y = regression(tasks=5)
    model = maml(dense(), loss=keras.losses.CosineSimilarity())
    # The targets are the model's predictions before adaptation.
    query_y = np.stack([model.model.predict(x, verbose=0) for x in task["query_x"]])
    result = evaluated(model, (task, query_y))
    np.testing.assert_allclose(result.curve[0], -1.0, rtol=1e-5)
    assert not result.diverged.any()
    negative = np.array([[-0.3, -0.2], [-0.4, np.nan]])
    lost = diverged_tasks(negative, negative)
    assert lost.tolist() == [[False, False], [False, True]]


def test_bytes_are_refused():
    task, query_y = regression()
    task = {**task, "query_x": task["query_x"].astype("uint8")}
    with pytest.raises(ValueError, match=r"`query_x` must be float32"):
        evaluated(maml(dense()), (task, query_y))


def test_a_class_without_an_output_is_refused():
    task, labels = classification(ways=5)
    model = maml(dense(outputs=3), loss=SCCE)
    with pytest.raises(ValueError, match=r"must hold labels 0\.\.2.*0\.\.4"):
        evaluated(model, (task, labels))
    with pytest.raises(ValueError, match=r"`query_y` must hold labels 0\.\.2"):
        trace_inner_loop(model, [(*classification(ways=3)[:1], labels[:, :6] + 1)])
