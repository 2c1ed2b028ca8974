"""Which passes update the moving statistics of batch norm, and by what."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    assert_identical,
    batch_normalised,
    maml,
    plain_adapt,
    regression,
    task_of,
)

from maml_keras.learner.learner import Learner

pytestmark = pytest.mark.usefixtures("without_graphs")

MOMENTUM = 0.7


def moved_by_hand(model, batch, steps):
    """The mean over tasks of Keras's moving statistics after each task's query pass."""
    start = [v.numpy() for v in model.variables]
    each = []
    for index in range(len(batch[1])):
        task, _ = task_of(batch, index)
        plain_adapt(model, task["support_x"], task["support_y"], steps=steps)
        hidden = model.layers[0](task["query_x"]).numpy()
        each.append([hidden.mean(axis=0), hidden.var(axis=0)])
        for variable, value in zip(model.variables, start):
            variable.assign(value)
    layer = model.layers[1]
    old = np.array([layer.moving_mean.numpy(), layer.moving_variance.numpy()])
    return np.mean(
        [MOMENTUM * old + (1 - MOMENTUM) * np.array(e) for e in each], axis=0
    )


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("policy", "task_map"), [("running", "parallel"), ("transductive", "vectorized")]
)
def test_statistics_are_updated_once_a_meta_step_by_a_mean(policy, task_map):
    model, batch = batch_normalised(momentum=MOMENTUM), regression(tasks=3)
    model.layers[1].moving_mean.assign_add(tf.range(6.0) / 10)
    expected = moved_by_hand(model, batch, steps=2)
    wrapped = maml(model, steps=2, batch_norm=policy, task_map=task_map)
    wrapped.compile(keras.optimizers.SGD(0.1))
    wrapped.train_on_batch(*batch)
    layer = model.layers[1]
    # float32.
    np.testing.assert_allclose(layer.moving_mean, expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, expected[1], rtol=1e-4, atol=1e-6)


def test_frozen_batch_norm_keeps_its_statistics_in_training():
    model = batch_normalised()
    model.layers[1].trainable = False
    before = (
        model.layers[1].moving_mean.numpy(),
        model.layers[1].moving_variance.numpy(),
    )
    wrapped = maml(model, batch_norm="running")
    wrapped.compile("sgd")
    wrapped.train_on_batch(*regression())
    after = model.layers[1].moving_mean.numpy(), model.layers[1].moving_variance.numpy()
    assert_identical(before, after)


def test_adapted_model_predicts_with_the_supports_statistics():
    model = batch_normalised()
    task, _ = task_of(regression(), 0)
    adapted = maml(model, rate=RATE).adapt(task["support_x"], task["support_y"])
    hidden = adapted.layers[0](task["support_x"]).numpy()
    layer = adapted.layers[1]
    np.testing.assert_allclose(
        layer.moving_mean, hidden.mean(axis=0), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(layer.moving_variance, hidden.var(axis=0), rtol=1e-3)


def test_adapted_model_keeps_moving_statistics_under_running():
    model = batch_normalised()
    model.layers[1].moving_mean.assign_add(tf.range(6.0) / 10)
    task, _ = task_of(regression(), 0)
    adapted = maml(model, batch_norm="running").adapt(
        task["support_x"], task["support_y"]
    )
    np.testing.assert_array_equal(
        adapted.layers[1].moving_mean, model.layers[1].moving_mean
    )


def called(times):
    """A batch norm layer that a pass calls several times, as in a siamese network."""
    x = keras.Input([3])
    h = keras.layers.Dense(6, activation="tanh")(x)
    layer = keras.layers.BatchNormalization(momentum=MOMENTUM)
    outputs = [layer(h) for _ in range(times)]
    h = outputs[0] if times == 1 else keras.layers.Average()(outputs)
    return keras.Model(x, keras.layers.Dense(2)(h))


def test_batch_statistics_of_a_layer_that_is_called_several_times():
    once, thrice = called(1), called(3)
    thrice.set_weights(once.get_weights())
    x = regression()[0]["support_x"][0]
    found = []
    for model in (once, thrice):
        learner = Learner(model)
        found.append(
            learner.batch_statistics(learner.weights(), learner.state(), tf.constant(x))
        )
    h = once.layers[1](x)
    np.testing.assert_allclose(found[0][0], tf.reduce_mean(h, 0), 1e-5, 1e-6)
    for one, three in zip(*found):
        np.testing.assert_allclose(three, one, rtol=1e-5, atol=1e-6)  # float32


def test_frames_of_a_series_share_their_statistics():
    # Each frame is a call of the inner layer; all have the same values here.
    x = keras.Input([4, 3])
    layer = keras.layers.BatchNormalization()
    model = keras.Model(
        x, keras.layers.Dense(2)(keras.layers.TimeDistributed(layer)(x))
    )
    frame = np.random.default_rng(0).normal(5.0, 2.0, [7, 3]).astype("float32")
    frames = np.repeat(frame[:, None], 4, axis=1)
    adapted = maml(model, batch_norm="support").adapt(frames, np.zeros([7, 4, 2]))
    inner = adapted.layers[1].layer
    np.testing.assert_allclose(inner.moving_mean, frame.mean(0), rtol=1e-4)
    np.testing.assert_allclose(inner.moving_variance, frame.var(0), rtol=1e-3)


class OnlyInTraining(keras.Model):
    """A model that calls a layer in training only."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = keras.layers.BatchNormalization()
        self.other = keras.layers.BatchNormalization()
        self.head = keras.layers.Dense(2)

    def call(self, x, training=False):
        if training:
            x = self.norm(x)
        return self.head(self.other(x))


def test_a_layer_that_is_not_called_keeps_its_statistics():
    model, x = OnlyInTraining(), regression()[0]["support_x"][0]
    model(x, training=True)
    model.norm.moving_mean.assign([1.0, 2.0, 3.0])
    learner = Learner(model)
    found = learner.batch_statistics(learner.weights(), learner.state(), tf.constant(x))
    state = {v.path: t for v, t in zip(learner.state_variables, found)}
    np.testing.assert_array_equal(state[model.norm.moving_mean.path], [1.0, 2.0, 3.0])
    found = state[model.other.moving_mean.path]
    np.testing.assert_allclose(found, x.mean(axis=0), rtol=1e-5, atol=1e-6)
