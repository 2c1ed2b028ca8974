"""The policy that normalises each query together with the support set, one by one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import batch_normalised, images, maml, plain_adapt, regression, task_of

from maml_keras import check_meta_gradient
from maml_keras.learner.beside_support import mixed

pytestmark = pytest.mark.usefixtures("without_graphs")

layers = keras.layers


def alone(learner, task):
    """Predictions of the queries, each in a separate batch."""
    count = task["query_x"].shape[1]
    parts = [{**task, "query_x": task["query_x"][:, i : i + 1]} for i in range(count)]
    return np.concatenate([learner.predict_on_batch(part) for part in parts], axis=1)


def test_mixed_statistics_equal_the_statistics_of_the_union():
    rows = np.random.default_rng(0).normal(size=[5, 3])
    parts = [(r.mean(axis=0), r.var(axis=0)) for r in (rows[:4], rows[4:])]
    mean, variance = mixed(*parts, 1 / 5)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance, rows.var(axis=0), rtol=1e-12)


@pytest.mark.parametrize("kind", ["dense", "images", "channels_first"])
def test_a_query_is_normalised_in_a_batch_of_the_support_set_and_itself(kind):
    # By hand: adapt, append each query to the support set, run this batch through
    # Keras's model in training mode, and take the last row.
    if kind == "dense":
        model, batch = batch_normalised(), regression()
    else:
        norm = layers.BatchNormalization(axis=1 if kind == "channels_first" else -1)
        model, batch = images(norm), regression((6, 6, 1))
    got = maml(model, steps=2, batch_norm="beside")(batch[0])
    start = [v.numpy() for v in model.variables]
    for index in range(2):
        task, _ = task_of(batch, index)
        plain_adapt(model, task["support_x"], task["support_y"], steps=2)
        for query, found in zip(task["query_x"], got[index]):
            both = np.concatenate([task["support_x"], query[None]])
            expected = model(both, training=True)[-1]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        for variable, value in zip(model.variables, start):
            variable.assign(value)


def deep():
    return keras.Sequential(
        [
            keras.Input([6, 6, 1]),
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),
            layers.Activation("tanh"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dense(2),
        ]
    )


@pytest.mark.parametrize(
    "task_map", ["sequential", pytest.param("parallel", marks=pytest.mark.graphs)]
)
def test_no_other_query_changes_a_prediction(task_map):
    learner = maml(deep(), steps=2, batch_norm="beside", task_map=task_map)
    task, _ = regression((6, 6, 1), queries=5)
    together = learner.predict_on_batch(task)
    # float32: kernels may add in another order for another number of rows.
    np.testing.assert_allclose(alone(learner, task), together, rtol=1e-5, atol=1e-6)
    # The first prediction stays equal bit for bit if the other queries change.
    others = {**task, "query_x": task["query_x"].copy()}
    others["query_x"][:, 1:] *= 100.0
    found = learner.predict_on_batch(others)
    np.testing.assert_array_equal(found[:, 0], together[:, 0])
    assert np.abs(found[:, 1:] - together[:, 1:]).max() > 1e-2


@pytest.mark.graphs
def test_meta_gradient_through_several_layers_is_exact():
    learner = maml(deep(), steps=1, batch_norm="beside")
    checks = check_meta_gradient(learner, regression((6, 6, 1)))
    assert all(check.decided for check in checks)


def test_the_share_of_a_query_follows_the_size_of_the_support_set():
    learner = maml(batch_normalised(), batch_norm="beside")
    share = learner.batch_norm.query_share
    assert float(share) == 0.0  # There was no support set yet.
    learner.compile("sgd")
    learner.train_on_batch(*regression(support=4))
    assert float(share) == pytest.approx(1 / 5)
    task, _ = regression(support=9)
    learner.predict_on_batch(task)
    assert float(share) == pytest.approx(1 / 5)  # Evaluation changes no statistics.


def test_with_a_large_support_set_the_policy_approaches_support():
    # With n support examples, the share of a query is 1 / (n + 1).
    model, gaps = batch_normalised(), []
    for support in (4, 400):
        task, _ = regression(support=support)
        found = [
            maml(model, batch_norm=policy).predict_on_batch(task)
            for policy in ("beside", "support")
        ]
        gaps.append(np.abs(found[0] - found[1]).max())
    assert gaps[0] > 0.05
    assert gaps[1] < gaps[0] / 20


@pytest.mark.parametrize("keep", ["frozen", "momentum"])
def test_a_layer_with_fixed_statistics_keeps_them(keep):
    model = batch_normalised(momentum=1.0 if keep == "momentum" else 0.9)
    model.layers[1].moving_mean.assign(np.linspace(-0.4, 0.4, 6))
    model.layers[1].trainable = keep != "frozen"
    task, _ = regression()
    beside, support = (
        maml(model, batch_norm=policy).predict_on_batch(task)
        for policy in ("beside", "support")
    )
    np.testing.assert_allclose(beside, support, rtol=1e-5, atol=1e-6)


def test_masked_positions_do_not_count():
    x = keras.Input([None, 3])
    h = layers.Masking()(x)
    h = layers.BatchNormalization()(h)
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(4)(h)))
    task, _ = regression((5, 3), outputs=2)
    short = {**task, "query_x": task["query_x"].copy()}
    short["query_x"][:, :, 3:] = 0.0  # `Masking` masks these positions.
    learner = maml(model, batch_norm="beside")
    state = learner.learner
    task_x = [tf.constant(t[0]) for t in (task["support_x"], short["query_x"])]
    seen = state.settled(
        state.weights(), state.state(), task_x[0], training=False, step=0
    )
    found = state.answer(state.weights(), seen, task_x[1], training=False, step=0)
    without = state.answer(
        state.weights(), seen, task_x[1][:, :3], training=False, step=0
    )
    np.testing.assert_allclose(
        found.predictions, without.predictions, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float64"])
def test_other_precisions_give_finite_predictions(dtype):
    keras.config.set_dtype_policy(dtype)
    try:
        learner = maml(batch_normalised(), batch_norm="beside")
        learner.compile("sgd")
        assert np.isfinite(learner.train_on_batch(*regression()))
    finally:
        keras.config.set_dtype_policy("float32")


def test_the_share_is_saved_with_the_model(tmp_path):
    learner = maml(batch_normalised(), batch_norm="beside")
    learner.compile("sgd")
    learner.train_on_batch(*regression())
    learner.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config()["batch_norm"] == "beside"
    assert float(loaded.batch_norm.query_share) == pytest.approx(1 / 5)
    task, _ = regression()
    np.testing.assert_array_equal(
        loaded.predict_on_batch(task), learner.predict_on_batch(task)
    )
