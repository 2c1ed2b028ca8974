"""Batch-norm policies: what a prediction depends on, and which statistics change."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    assert_exports,
    batch_normalised,
    images,
    maml,
    model_with_statistics,
    plain_adapt,
    regression,
    task_of,
    with_dropout,
    with_rows_that_differ,
)

from maml_keras import check_meta_gradient, evaluate_episodes, trace_inner_loop
from maml_keras.learner import batch_norm_policies

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")

TRANSDUCTIVE = ["transductive", "per_step"]

PER_STEP = ["per_step", "per_step_running"]

ALL = [
    *TRANSDUCTIVE,
    "inductive",
    "support",
    "beside",
    "running",
    "per_step_running",
    "frozen",
]


@pytest.mark.parametrize(
    ("policy", "task_map"),
    [(policy, "sequential") for policy in ALL]
    + [(policy, "vectorized") for policy in ("transductive", "support", "beside")]
    + [
        pytest.param(policy, "vectorized", marks=pytest.mark.slow)
        for policy in ALL
        if policy not in ("transductive", "support", "beside")
    ],
)
def test_whether_a_query_sees_the_other_queries(policy, task_map):
    learner = maml(
        model_with_statistics(), steps=1, batch_norm=policy, task_map=task_map
    )
    task, _ = regression(queries=2)
    together = learner(task)
    alone = [
        learner({**task, "query_x": task["query_x"][:, i : i + 1]}) for i in range(2)
    ]
    gap = np.abs(np.concatenate(alone, axis=1) - together).max()
    if policy in TRANSDUCTIVE:
        assert gap > 1e-2
    else:
        assert gap < 1e-5  # float32


@pytest.mark.parametrize("policy", ["transductive", "beside"])
def test_an_evaluation_names_the_policy(policy):
    learner = maml(batch_normalised(), batch_norm=policy)
    result = evaluate_episodes(learner, [regression()], verbose=0)
    assert policy in str(result)
    assert result.summary()["batch_norm"] == policy


def test_support_policy_normalises_queries_by_the_adapted_support_set():
    # By hand: adapt, take the support set's moments at the adapted weights, normalise.
    model, batch = model_with_statistics(), regression()
    got = maml(model, steps=2, batch_norm="support")(batch[0])
    start = [v.numpy() for v in model.variables]
    for index in range(2):
        task, _ = task_of(batch, index)
        plain_adapt(model, task["support_x"], task["support_y"], steps=2)
        first, norm, head = model.layers
        hidden = first(task["support_x"]).numpy()
        mean, variance = hidden.mean(axis=0), hidden.var(axis=0)
        rows = (first(task["query_x"]) - mean) / np.sqrt(variance + norm.epsilon)
        expected = head(rows * norm.gamma + norm.beta)
        np.testing.assert_allclose(got[index], expected, rtol=1e-3, atol=1e-5)
        for variable, value in zip(model.variables, start):
            variable.assign(value)


# Other fast tests check two policies. tests/outer/test_meta_gradients.py checks the
# default, "transductive", for dense and convolutional networks. A test below shows that
# "inductive" gives the gradients of "transductive".
@pytest.mark.graphs
@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        pytest.param(
            kind,
            policy,
            marks=pytest.mark.slow
            if kind == "conv" or policy in ("transductive", "inductive")
            else (),
        )
        for kind in ("dense", "conv")
        for policy in ALL
    ],
)
def test_meta_gradient_is_exact_under_every_policy(policy, kind):
    if kind == "dense":
        model, batch = batch_normalised(), regression()
    else:
        model = images(keras.layers.BatchNormalization())
        batch = regression((6, 6, 1))
    # Policies with tables for each step need more than one step.
    learner = maml(model, steps=2 if policy in PER_STEP else 1, batch_norm=policy)
    checks = check_meta_gradient(learner, batch)
    assert all(check.decided for check in checks)
    assert len(checks) == len(learner.trainable_variables)


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(
            policy,
            marks=[pytest.mark.slow] if policy in ("support", "per_step") else [],
        )
        for policy in ALL
    ],
)
def test_which_statistics_training_changes(policy):
    model = model_with_statistics()
    learner = maml(model, batch_norm=policy)
    learner.compile("sgd")
    before = [model.layers[1].moving_mean.numpy(), *statistics(learner)]
    learner.train_on_batch(*regression())
    after = [model.layers[1].moving_mean.numpy(), *statistics(learner)]
    moved = [np.abs(a - b).max() > 1e-4 for a, b in zip(after, before)]
    own = [policy not in ("per_step_running", "frozen")]
    assert moved == own + [True] * len(statistics(learner))
    # Evaluation and adaptation never change statistics.
    task, query_y = regression()
    learner.evaluate(task, query_y, verbose=0)
    learner.adapt(task["support_x"][0], task["support_y"][0])
    for a, b in zip(statistics(learner), after[1:]):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model.layers[1].moving_mean, after[0])


def test_the_inductive_policy_trains_as_transductive_and_predicts_as_support():
    model, batch = model_with_statistics(), regression()
    transductive, inductive, support = (
        maml(model, steps=2, batch_norm=policy)
        for policy in ("transductive", "inductive", "support")
    )
    np.testing.assert_array_equal(inductive(batch[0]), support(batch[0]))
    np.testing.assert_array_equal(
        inductive(batch[0], training=True), transductive(batch[0], training=True)
    )
    found, expected, other = (
        m.compute_meta_gradients(batch)[1] for m in (inductive, transductive, support)
    )
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(found, other))


def test_a_model_keeps_its_weights_under_another_policy():
    model, batch = model_with_statistics(), regression()
    first = maml(model, steps=2, bad_tasks="skip")
    first.compile("sgd", loss="mae")
    first.train_on_batch(*batch)
    second = first.with_batch_norm("inductive")
    assert second.model is model
    assert second.bad_tasks is first.bad_tasks
    assert (int(second.meta_steps), int(second.episodes_seen)) == (1, 2)
    fresh = maml(model, steps=2, batch_norm="support")
    np.testing.assert_array_equal(second(batch[0]), fresh(batch[0]))
    found = evaluate_episodes(second, [batch], metric="loss", verbose=0)
    errors = np.abs(fresh(batch[0]) - batch[1]).mean(axis=(1, 2))
    np.testing.assert_allclose(found.per_episode[:, -1], errors, rtol=1e-4)


def test_which_policies_couple_the_queries_of_a_task():
    coupled = [n for n in ALL if batch_norm_policies.get(n).couples_queries]
    assert coupled == TRANSDUCTIVE


def test_the_support_policy_updates_statistics_by_the_support_set():
    # The query pass updates at the adapted weights, with Keras's momentum.
    model, batch = model_with_statistics(), regression(tasks=1)
    norm = model.layers[1]
    old = norm.moving_mean.numpy()
    learner = maml(model, steps=0, batch_norm="support")
    learner.compile(keras.optimizers.SGD(0.0))
    learner.train_on_batch(*batch)
    task, _ = task_of(batch, 0)
    mean = model.layers[0](task["support_x"]).numpy().mean(axis=0)
    expected = old * norm.momentum + mean * (1.0 - norm.momentum)
    np.testing.assert_allclose(norm.moving_mean, expected, rtol=1e-4, atol=1e-6)


def statistics(learner):
    return [v.numpy() for v in learner.learner.batch_norm.statistics()]


@pytest.mark.graphs
@pytest.mark.journey
@pytest.mark.parametrize(
    "policy", ["inductive", "support", "beside", "running", "frozen"]
)
def test_policies_hold_in_the_export(policy, tmp_path):
    learner, (task, _) = (
        maml(model_with_statistics(), steps=2, batch_norm=policy),
        regression(),
    )
    assert_exports(learner, task, learner(task)[0], tmp_path / "export")


@pytest.mark.parametrize("policy", ALL)
def test_dropout_is_independent_of_the_policy(policy):
    learner = maml(with_dropout(), steps=1, batch_norm=policy)
    batch = regression()
    seeds = [tf.constant([0, s]) for s in (1, 2)]
    losses = [float(learner.compute_meta_gradients(batch, seed=s)[0]) for s in seeds]
    assert losses[0] != losses[1]  # Dropout is on in training.
    np.testing.assert_array_equal(learner(batch[0]), learner(batch[0]))  # Off here.


def test_frozen_policy_trains_scale_and_offset():
    model = model_with_statistics()
    learner = maml(model, batch_norm="frozen")
    learner.compile("sgd")
    before = model.layers[1].gamma.numpy()
    learner.train_on_batch(*regression())
    assert np.abs(model.layers[1].gamma.numpy() - before).max() > 1e-6


def test_names_of_policies_and_models_that_policies_refuse():
    assert sorted(batch_norm_policies.POLICIES) == sorted(ALL)
    for name in ALL:
        assert batch_norm_policies.get(name).name == name
    with pytest.raises(ValueError, match="`batch_norm` must be one of.*'other'"):
        batch_norm_policies.get("other")
    synchronized = images(keras.layers.BatchNormalization(synchronized=True))
    for name in PER_STEP:
        with pytest.raises(ValueError, match=f"{name}.*plain batch.*synchronized"):
            maml(synchronized, batch_norm=name)
        policy = maml(batch_normalised(), batch_norm=name).batch_norm
        with pytest.raises(ValueError, match="belongs to the model"):
            maml(batch_normalised(), batch_norm=policy)


@pytest.mark.parametrize("policy", ALL)
def test_evaluation_gives_the_losses_of_predict(policy):
    learner = with_rows_that_differ(policy)
    task, query_y = regression(queries=5)
    errors = np.square(learner(task) - query_y).mean(axis=(1, 2))
    result = evaluate_episodes(learner, [(task, query_y)], verbose=0)
    np.testing.assert_allclose(result.per_episode[:, -1], errors, rtol=1e-4)


@pytest.mark.parametrize("policy", ["support", "per_step_running"])
def test_a_trace_and_keras_evaluate_give_the_losses_of_predict(policy):
    learner = with_rows_that_differ(policy)
    learner.compile("sgd")
    task, query_y = regression(queries=5)
    errors = np.square(learner.predict(task, verbose=0) - query_y).mean(axis=(1, 2))
    trace = trace_inner_loop(learner, [(task, query_y)], verbose=0)
    np.testing.assert_allclose(trace.query_loss[:, -1], errors, rtol=1e-4)
    found = learner.evaluate(task, query_y, verbose=0)
    np.testing.assert_allclose(found, errors.mean(), rtol=1e-4)
