"""The metrics of an evaluation: accuracy, functions of Keras and of a user."""

import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    classification,
    dense,
    maml,
    regression,
)

from maml_keras.evaluation.evaluate import evaluate_episodes
from maml_keras.evaluation.metrics import direction
from maml_keras.evaluation.trace import trace_inner_loop

pytestmark = pytest.mark.usefixtures("without_graphs")

SCCE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def evaluated(model, *batches, **kwargs):
    return evaluate_episodes(model, batches, verbose=0, **kwargs)


def test_accuracy_is_the_share_of_right_labels():
    model, batch = maml(dense(outputs=3), loss=SCCE), classification()
    result = evaluated(model, batch)
    expected = model.predict(batch[0], verbose=0).argmax(-1) == batch[1]
    np.testing.assert_allclose(result.per_episode[:, 1], expected.mean(axis=1))
    assert result.metric == "accuracy"
    assert result.higher_is_better


def test_a_users_own_metric():
    def largest_error(y_true, y_pred):
        return tf.reduce_max(tf.abs(y_true - y_pred), axis=-1)

    model, batch = maml(dense()), regression()
    result = evaluated(model, batch, metric=largest_error)
    errors = np.abs(model.predict(batch[0], verbose=0) - batch[1]).max(-1).mean(1)
    np.testing.assert_allclose(result.per_episode[:, 1], errors, rtol=1e-5)  # float32
    assert result.metric == "largest_error"


def test_accuracy_takes_targets_as_the_loss_does():
    task, labels = classification(ways=3)
    rows = np.eye(3, dtype="float32")
    sparse = maml(dense(outputs=3), loss=SCCE)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    one_hot = maml(dense(outputs=3), loss=loss)
    one_hot.set_weights(sparse.get_weights())
    hot = {**task, "support_y": rows[task["support_y"]]}
    expected = evaluated(sparse, (task, labels), metric="accuracy")
    for metric in ("accuracy", keras.metrics.categorical_accuracy):
        found = evaluated(one_hot, (hot, rows[labels]), metric=metric)
        np.testing.assert_allclose(found.curve, expected.curve, rtol=1e-6)
        assert found.higher_is_better
    with pytest.raises(ValueError, match="needs a categorical or binary cross-entropy"):
        evaluated(maml(dense()), regression(), metric="accuracy")


def test_ignored_labels_do_not_count():
    task, labels = classification(ways=3, queries=4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model = maml(dense(outputs=3), loss=loss)
    kept = labels.copy()
    kept[:, ::2] = -1
    whole = evaluated(model, (task, labels)).per_episode
    part = evaluated(model, (task, kept)).per_episode
    right = model.predict(task, verbose=0).argmax(-1) == labels
    np.testing.assert_allclose(part[:, -1], right[:, 1::2].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(whole[:, -1], right.mean(axis=1), rtol=1e-6)


def test_the_direction_of_a_metric_is_known_or_given():
    def score(y_true, y_pred):
        return -keras.ops.mean((y_true - y_pred) ** 2, axis=-1)

    model, batch = maml(dense()), regression()
    found = {
        given: evaluated(model, batch, metric=score, higher_is_better=given)
        for given in (None, True, False)
    }
    assert [f.higher_is_better for f in found.values()] == [None, True, False]
    error = keras.metrics.mean_absolute_error
    assert evaluated(model, batch, metric=error).higher_is_better is False
    trace = trace_inner_loop(model, [batch], metric=score, higher_is_better=True)
    assert trace.query().higher_is_better is True
    assert trace.query("loss").higher_is_better is False


def test_the_direction_of_every_metric_of_keras_is_known():
    functions = {
        name
        for name in dir(keras.metrics)
        if inspect.isfunction(getattr(keras.metrics, name))
    } - {"get", "serialize", "deserialize"}
    found = {name for name in functions if direction(name) is None}
    assert len(functions) > 20
    assert not found
    rising = {name for name in functions if direction(name)}
    assert rising == {
        name for name in functions if name.endswith(("accuracy", "correlation"))
    }


@pytest.mark.parametrize("output", ["left", "accuracy_of_age"])
def test_the_loss_of_one_output_is_better_when_lower(output):
    x = keras.Input([3])
    outputs = {output: keras.layers.Dense(2)(x), "other": keras.layers.Dense(2)(x)}
    loss = dict.fromkeys(outputs, "mse")
    task, query_y = regression()
    task["support_y"] = dict.fromkeys(outputs, task["support_y"])
    batch = task, dict.fromkeys(outputs, query_y)
    model = maml(keras.Model(x, outputs), loss=loss)
    found = evaluated(model, batch, metric={output: "loss"})
    assert (found.metric, found.higher_is_better) == (f"{output}_loss", False)


def test_several_labels_are_decided_at_the_threshold_of_the_loss():
    task, query_y = regression(seed=3)
    task["support_y"] = (task["support_y"] > 0).astype("float32")
    query_y = (query_y > 0).astype("float32")
    plain = keras.losses.binary_crossentropy
    for loss, decision in (
        (keras.losses.BinaryCrossentropy(from_logits=True), 0.0),
        (keras.losses.BinaryCrossentropy(from_logits=False), 0.5),
        (functools.partial(plain, from_logits=True), 0.0),
        (plain, 0.5),
    ):
        model = maml(dense(activation="sigmoid"), loss=loss, steps=1)
        for metric in ("accuracy", "binary_accuracy"):
            result = evaluated(model, (task, query_y), metric=metric, steps=0)
            logits = model.model.predict(task["query_x"].reshape(-1, 3), verbose=0)
            right = (logits > decision) == query_y.reshape(-1, 2)
            np.testing.assert_allclose(
                result.per_episode.mean(), right.mean(), rtol=1e-6
            )


def test_metric_functions_of_keras_go_by_name():
    model, batch = maml(dense()), regression()
    by_name = evaluated(model, batch, metric="mean_absolute_error")
    function = keras.metrics.mean_absolute_error
    assert by_name.metric == "mean_absolute_error"
    np.testing.assert_array_equal(
        by_name.per_episode, evaluated(model, batch, metric=function).per_episode
    )


def test_one_of_several_outputs_is_evaluated_by_its_key():
    x = keras.Input([3])
    outputs = {"a": keras.layers.Dense(2)(x), "b": keras.layers.Dense(1)(x)}
    model = maml(keras.Model(x, outputs), loss={"a": "mse", "b": "mse"})
    task, a = regression(outputs=2)
    other, b = regression(outputs=1, seed=1)
    task["support_y"] = {"a": task["support_y"], "b": other["support_y"]}
    batch = task, {"a": a, "b": b}
    whole = evaluated(model, batch)
    parts = [evaluated(model, batch, metric={key: "loss"}) for key in "ab"]
    assert [part.metric for part in parts] == ["a_loss", "b_loss"]
    np.testing.assert_allclose(
        sum(part.per_episode for part in parts), whole.per_episode, rtol=1e-5
    )
    with pytest.raises(ValueError, match="a dict with one entry"):
        evaluated(model, batch, metric={"a": "loss", "b": "loss"})
