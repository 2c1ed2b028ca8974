"""The ridge regression of the support set as the last layer."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import classification, precision, regression

from maml_keras import (
    MAML,
    SGD,
    InnerLoop,
    RidgeHead,
    check_meta_gradient,
    model_card,
    recipes,
)
from maml_keras.inner.ridge import ridge_weights

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def embedding(outputs=3, **head):
    return keras.Sequential(
        [
            keras.Input([3]),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(outputs, name="head", **head),
        ]
    )


def wrapped(model, loss=CROSS_ENTROPY, *, steps=0, ridge=(0.3, 2.0), **kwargs):
    inner = InnerLoop(loss, SGD(0.1), steps=steps, start=RidgeHead(*ridge))
    return MAML(model, inner, **kwargs)


def normal_equations(x, y, regularization, weight=None):
    """The kernel `[features + 1, outputs]`, by the other closed form, in float64."""
    x = np.append(np.asarray(x, float), np.ones([len(x), 1]), axis=1)
    share = np.ones(len(x)) if weight is None else np.asarray(weight, float)
    scaled = x.T * (share / share.sum())
    return np.linalg.solve(
        scaled @ x + regularization * np.eye(x.shape[1]), scaled @ np.asarray(y, float)
    )


def predicted(model, task, index, targets, *, regularization=0.3, scale=2.0):
    body = model.layers[0]
    x, queries = (body(task[k][index]).numpy() for k in ("support_x", "query_x"))
    solution = normal_equations(x, targets, regularization)
    return scale * (np.append(queries, np.ones([len(queries), 1]), axis=1) @ solution)


@pytest.mark.parametrize("features", [2, 9])  # Fewer and more than examples.
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.0, 1.0, 0.5]])
def test_the_layer_is_the_ridge_regression_of_scikit_learn(features, weight):
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=[5, features]), generator.normal(size=[5, 2])
    given = None if weight is None else tf.constant(weight, tf.float64)
    got = ridge_weights(tf.constant(x), tf.constant(y), given, regularization=0.1)
    # Its penalty weighs against the sum of squares, ours against the mean.
    total = 5.0 if weight is None else sum(weight)
    theirs = linear_model.Ridge(alpha=0.1 * total, fit_intercept=False)
    theirs.fit(np.append(x, np.ones([5, 1]), axis=1), y, sample_weight=weight)
    np.testing.assert_allclose(got[0], theirs.coef_[:, :-1].T, rtol=1e-9)
    np.testing.assert_allclose(got[1], theirs.coef_[:, -1], rtol=1e-9)


@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
def test_predictions_are_the_scaled_ridge_regression_of_one_hot_classes(task_map):
    model, (task, _) = embedding(), classification()
    maml = wrapped(model, task_map=task_map)
    maml.start.weights[2].assign(0.5)
    predictions = maml(task)
    for index in range(2):
        one_hot = np.eye(3)[task["support_y"][index]]
        expected = predicted(model, task, index, one_hot) + 0.5
        np.testing.assert_allclose(predictions[index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 2])
def test_targets_of_a_regression_are_fitted_as_they_are(outputs):
    model, (task, _) = embedding(outputs), regression(outputs=outputs)
    predictions = wrapped(model, "mse")(task)
    for index in range(2):
        expected = predicted(model, task, index, task["support_y"][index])
        np.testing.assert_allclose(predictions[index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.graphs
@pytest.mark.parametrize("steps", [0, 1])
def test_meta_gradient_passes_through_the_closed_form(steps):
    checks = check_meta_gradient(wrapped(embedding(), steps=steps), classification())
    by_name = {check.path.split("/")[-1]: check.analytic for check in checks[4:]}
    assert all(check.decided for check in checks)
    assert abs(checks[0].analytic) > 1e-3
    assert [c.analytic for c in checks[2:4]] == [0.0, 0.0]  # The head's own weights.
    assert abs(by_name["log_regularization"]) > 1e-3
    assert abs(by_name["log_scale"]) > 1e-3
    assert abs(by_name["offset"]) < 1e-12  # A softmax does not see an offset.


@pytest.mark.graphs
def test_the_offset_of_a_regression_is_learned():
    checks = check_meta_gradient(wrapped(embedding(2), "mse"), regression())
    assert abs(checks[-1].analytic) > 1e-3


def test_padding_and_the_scale_of_weights_change_nothing():
    x = np.random.default_rng(0).standard_normal([5, 3]).astype("float32")
    y = np.array([0, 1, 0, 1, 1])
    head = RidgeHead(0.1)
    head.learned.build()
    expected = head.weights_of(tf.constant(x[:4]), tf.constant(y[:4]), units=2)
    for weight in ([1.0, 1.0, 1.0, 1.0, 0.0], [3.0, 3.0, 3.0, 3.0, 0.0]):
        weight = tf.constant(weight)
        got = head.weights_of(tf.constant(x), tf.constant(y), weight, units=2)
        for one, other in zip(got, expected):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)  # float32


def test_an_ignored_label_is_no_example():
    x = np.random.default_rng(0).standard_normal([3, 4]).astype("float32")
    head = RidgeHead(0.1)
    head.learned.build()
    expected = head.weights_of(tf.constant(x[:2]), tf.constant([0, 1]), units=2)
    got = head.weights_of(tf.constant(x), tf.constant([0, 1, -1]), units=2)
    for one, other in zip(got, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)  # float32


def test_an_episode_may_have_fewer_classes_than_the_head():
    task, query_y = classification()
    small, large = embedding(3), embedding(7)
    large.layers[0].set_weights(small.layers[0].get_weights())
    few = tf.nn.softmax(wrapped(small, steps=2)(task))
    many = tf.nn.softmax(wrapped(large, steps=2)(task))
    np.testing.assert_allclose(many[..., :3], few, rtol=1e-4, atol=1e-6)  # float32
    np.testing.assert_array_equal(many[..., 3:], np.zeros([2, 6, 4]))
    learner = wrapped(large)
    learner.compile("sgd")
    history = learner.fit(task, query_y, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_mixed_precision_solves_in_float32():
    task, query_y = classification()
    full = wrapped(embedding())
    with precision("float32"):
        keras.config.set_dtype_policy("mixed_float16")
        learner = wrapped(embedding())
        learner.model.set_weights(full.model.get_weights())
        learner.compile("sgd")
        # The features and the logits have ten bits.
        np.testing.assert_allclose(learner(task), full(task), atol=0.02)
        history = learner.fit(task, query_y, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.graphs
def test_learned_numbers_are_trained_saved_and_exported(tmp_path):
    learner, (task, query_y) = wrapped(embedding(), steps=1), classification()
    learner.compile(keras.optimizers.SGD(1.0), jit_compile=False)
    before = [float(v.numpy()) for v in learner.start.weights]
    learner.fit(task, query_y, epochs=2, verbose=0)
    after = [float(v.numpy()) for v in learner.start.weights]
    assert abs(after[0] - before[0]) > 1e-3
    assert abs(after[1] - before[1]) > 1e-3
    learner.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(task), learner(task), rtol=1e-5, atol=1e-6)
    learner.export(tmp_path / "export", verbose=0)
    shown = str(model_card(tmp_path / "export", latency=False))
    assert re.search(r"start +RidgeHead", shown)
    saved = tf.saved_model.load(str(tmp_path / "export"))
    got = saved.adapt_and_predict(
        tf.constant(task["support_x"][0], tf.float32),
        tf.constant(task["support_y"][0], tf.int32),
        tf.constant(task["query_x"][0], tf.float32),
    )
    np.testing.assert_allclose(got, learner(task)[0], rtol=1e-4, atol=1e-5)


def test_an_adapted_model_has_the_solution_in_its_head():
    model, (task, _) = embedding(), classification(tasks=1)
    maml = recipes.ridge(model, CROSS_ENTROPY, regularization=0.3, scale=2.0)
    adapted = maml.adapt(task["support_x"][0], task["support_y"][0], verbose=0)
    expected = predicted(model, task, 0, np.eye(3)[task["support_y"][0]])
    got = adapted(task["query_x"][0])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arguments", [(0.0,), (-1.0,), (1.0, 0.0), (float("nan"),)])
def test_numbers_have_to_be_above_zero(arguments):
    with pytest.raises(ValueError, match="must be a finite number above 0. Received"):
        RidgeHead(*arguments)


def test_a_model_without_a_plain_head_is_refused():
    with pytest.raises(ValueError, match="RidgeHead needs a model that ends in"):
        wrapped(embedding(use_bias=False))
