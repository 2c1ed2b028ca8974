"""Batch norm with a separate scale, offset and statistics for each inner step."""

import keras
import numpy as np
import pytest
from helpers import (
    assert_exports,
    batch_normalised,
    maml,
    model_with_statistics,
    plain_adapt,
    regression,
    task_of,
    with_rows_that_differ,
)

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")

TRANSDUCTIVE = ["transductive", "per_step"]

PER_STEP = ["per_step", "per_step_running"]


@pytest.mark.parametrize("policy", PER_STEP)
def test_learned_tables_are_not_left_out_in_silence(policy):
    model = maml(batch_normalised(), batch_norm=policy)
    with pytest.raises(ValueError, match=f"'{policy}', which has 2 of them"):
        model.with_batch_norm("inductive")


def test_each_step_updates_its_own_row():
    # The support passes update rows 0 and 1, the query pass updates row 2.
    model, batch = model_with_statistics(), regression(tasks=1)
    norm = model.layers[1]
    old = {"mean": norm.moving_mean.numpy(), "variance": norm.moving_variance.numpy()}
    learner = maml(model, steps=2, batch_norm="per_step_running")
    learner.compile(keras.optimizers.SGD(0.0))
    learner.train_on_batch(*batch)
    tables = learner.batch_norm.tables[0]
    task, _ = task_of(batch, 0)
    for row in range(3):
        x = task["query_x"] if row == 2 else task["support_x"]
        hidden = model.layers[0](x).numpy()
        batch = {"mean": hidden.mean(axis=0), "variance": hidden.var(axis=0)}
        for name, value in batch.items():
            expected = old[name] * norm.momentum + value * (1.0 - norm.momentum)
            np.testing.assert_allclose(
                tables[name].numpy()[row], expected, rtol=1e-4, atol=1e-6
            )
        plain_adapt(model, task["support_x"], task["support_y"], steps=1)


@pytest.mark.parametrize("policy", PER_STEP)
def test_learned_tables_of_the_policy_do_not_adapt(policy):
    learner = maml(model_with_statistics(), steps=2, batch_norm=policy)
    task, _ = task_of(regression(), 0)
    weights = learner.learner.weights()
    points = learner.inner.trajectory(
        learner.learner,
        weights,
        learner.learner.state(),
        task["support_x"],
        task["support_y"],
    )
    own = len(learner.model.trainable_variables)
    assert len(weights) == own + 2  # A table of scales and one of offsets.
    for start, end in zip(weights[own:], points[-1].weights[own:]):
        np.testing.assert_array_equal(start, end)
    assert any(np.any(a != b) for a, b in zip(weights[:own], points[-1].weights[:own]))


@pytest.mark.parametrize("policy", PER_STEP)
def test_a_step_beyond_training_uses_the_last_row(policy):
    learner = maml(model_with_statistics(), steps=2, batch_norm=policy)
    tables = learner.batch_norm.tables[0]
    assert ("mean" in tables) == (policy == "per_step_running")
    for name in ("gamma", "beta", "mean")[: len(tables)]:
        tables[name].assign_add(np.arange(18.0).reshape(3, 6))
    x = regression()[0]["query_x"][0]

    def predicted(step):
        state = learner.learner.weights(), learner.learner.state()
        return learner.learner(*state, x, training=False, step=step).predictions

    for step in (3, 4, 7):
        np.testing.assert_array_equal(predicted(step), predicted(2))
    assert np.abs(predicted(1) - predicted(2)).max() > 1e-2


@pytest.mark.parametrize("policy", PER_STEP)
def test_each_step_learns_its_own_scale_and_offset(policy):
    learner = maml(model_with_statistics(), steps=2, batch_norm=policy)
    learner.compile(keras.optimizers.SGD(0.1))
    learner.train_on_batch(*regression())
    tables = learner.batch_norm.tables[0]
    for name in ("gamma", "beta"):
        values = tables[name].numpy()
        assert values.shape == (3, 6)
        assert all(np.abs(row).max() > 1e-6 for row in values)
        assert np.abs(values[0] - values[2]).max() > 1e-6


def test_per_step_with_fresh_tables_is_transductive():
    # While the tables are zero, both policies give the same gradients and moving
    # statistics.
    batch, found = regression(), []
    for policy in TRANSDUCTIVE:
        keras.utils.set_random_seed(0)
        model = model_with_statistics()
        learner = maml(model, steps=2, batch_norm=policy)
        learner.compile(keras.optimizers.SGD(0.1))
        learner.train_on_batch(*batch)
        found.append([v.numpy() for v in model.variables])
    for plain, per_step in zip(*found):
        np.testing.assert_allclose(per_step, plain, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("policy", PER_STEP)
def test_a_frozen_layer_keeps_its_moving_statistics(policy):
    found = []
    for each in ("transductive", policy):
        keras.utils.set_random_seed(0)
        model = model_with_statistics()
        model.layers[1].trainable = False
        learner = maml(model, steps=2, batch_norm=each)
        learner.compile(keras.optimizers.SGD(0.1))
        learner.train_on_batch(*regression())
        found.append(learner(regression()[0]))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.graphs
@pytest.mark.default_map
@pytest.mark.journey
@pytest.mark.parametrize("policy", PER_STEP)
def test_per_step_is_saved_adapted_and_exported(policy, tmp_path):
    model, (task, query_y) = model_with_statistics(), regression()
    learner = maml(model, steps=2, batch_norm=policy, task_map="auto")
    learner.compile(keras.optimizers.SGD(0.1))
    learner.fit(task, query_y, epochs=3, verbose=0)
    expected = learner(task)[0]
    if policy == "per_step":
        # The export predicts with the support set's statistics. With equal support and
        # query inputs, they equal the statistics of the queries.
        task = {**task, "query_x": task["support_x"]}
        expected = learner(task)[0]
    learner.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(task)[0], expected, rtol=1e-5, atol=1e-6)
    # The adapted model is ordinary: the tables of the last step are folded in.
    adapted = learner.adapt(task["support_x"][0], task["support_y"][0])
    np.testing.assert_allclose(
        adapted(task["query_x"][0]), expected, rtol=1e-4, atol=1e-5
    )
    assert_exports(learner, task, expected, tmp_path / "export")


@pytest.mark.parametrize("policy", ["per_step", "per_step_running"])
def test_freezing_a_layer_later_freezes_its_tables(policy):
    model = batch_normalised()
    learner = maml(model, batch_norm=policy, steps=2)
    learned = len(learner.learner.variables)
    model.layers[1].trainable = False
    learner.compile("sgd")
    tables = learner.batch_norm.tables[0]
    assert not tables["gamma"].trainable
    assert not tables["beta"].trainable
    assert len(learner.learner.variables) == learned - 4  # Gamma, beta and two tables.
    before = tables["beta"].numpy()
    learner.train_on_batch(*regression())
    np.testing.assert_array_equal(tables["beta"], before)
    model.layers[1].trainable = True
    learner.compile("sgd")
    assert tables["gamma"].trainable


@pytest.mark.parametrize("policy", PER_STEP)
def test_an_adapted_model_has_the_tables_of_the_last_step(policy):
    learner = with_rows_that_differ(policy)
    task, _ = regression()
    # An adapted model has the statistics of the support set.
    task["query_x"] = task["support_x"]
    adapted = learner.adapt(task["support_x"][0], task["support_y"][0])
    np.testing.assert_allclose(
        adapted(task["query_x"][0]), learner(task)[0], rtol=1e-4, atol=1e-5
    )
