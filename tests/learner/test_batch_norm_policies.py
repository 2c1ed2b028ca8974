"""Which statistics batch norm uses, and which passes update the moving statistics."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    assert_identical,
    batch_normalised,
    maml,
    numpy_variables,
    plain_adapt,
    regression,
    task_of,
    with_dropout,
)

from maml_keras import fine_tune, to_keras
from maml_keras.learner import batch_norm_policies
from maml_keras.learner.learner import Learner

MOMENTUM = 0.7


def test_keras_own_call_is_restored_afterwards():
    before = keras.layers.BatchNormalization.call
    model = maml(batch_normalised())
    model.compile("sgd")
    model.train_on_batch(*regression())
    model.predict_on_batch(regression()[0])
    assert keras.layers.BatchNormalization.call is before
    assert before.__module__.startswith("keras.")


@pytest.mark.parametrize(
    ("policy", "training", "uses_batch"),
    [
        ("transductive", True, True),
        ("transductive", False, True),
        ("running", True, True),
        ("running", False, False),
    ],
)
def test_policy_decides_which_statistics_are_used(policy, training, uses_batch):
    model = batch_normalised()
    model.layers[1].moving_mean.assign_add(tf.range(6.0) / 10)
    x = regression()[0]["support_x"][0]
    learner = Learner(model, batch_norm=policy)
    output = learner(learner.weights(), learner.state(), x, training=training)
    expected = model(x, training=uses_batch)
    np.testing.assert_allclose(output.predictions, expected, rtol=1e-5, atol=1e-6)
    chosen = batch_norm_policies.get(policy)
    assert chosen.uses_batch_statistics(training=training) == uses_batch


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


@pytest.mark.parametrize("policy", ["transductive", "running"])
@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
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


# Dropout ---------------------------------------------------------------------------


def test_dropout_is_off_in_evaluation():
    model = maml(with_dropout())
    model.compile("sgd")
    batch = regression()
    first, second = model.predict_on_batch(batch[0]), model.predict_on_batch(batch[0])
    np.testing.assert_array_equal(first, second)
    again = model(batch[0], training=True)
    assert np.abs(again - first).max() > 1e-3


def predictions_in_training(model, batch):
    seen = []

    def spy(y_true, y_pred):
        seen.append(y_pred.numpy())
        return tf.square(y_true - y_pred)

    model.compile("sgd", loss=spy, run_eagerly=True)
    model.optimizer.learning_rate.assign(0.0)
    model.train_on_batch(*batch)
    return seen


def same_task_twice():
    batch = regression(tasks=1, queries=8)
    return tf.nest.map_structure(lambda a: np.concatenate([a, a]), batch)


def test_masks_differ_between_tasks_and_between_steps():
    model = maml(with_dropout(), task_map="sequential", seed=1)
    first = predictions_in_training(model, same_task_twice())
    assert np.abs(first[0] - first[1]).max() > 1e-3
    second = predictions_in_training(model, same_task_twice())
    assert np.abs(first[0] - second[0]).max() > 1e-3


def test_masks_depend_on_the_seed_only():
    start = with_dropout()
    weights = start.get_weights()

    def run(seed):
        start.set_weights(weights)
        model = maml(start, task_map="sequential", seed=seed)
        return predictions_in_training(model, same_task_twice())

    np.testing.assert_array_equal(run(1), run(1))
    assert np.abs(run(1)[0] - run(2)[0]).max() > 1e-3


def test_a_policy_object_is_used_unchanged():
    policy = batch_norm_policies.Running()
    assert batch_norm_policies.get(policy) is policy


@keras.saving.register_keras_serializable(package="tests")
class Batchwise(batch_norm_policies.Running):
    """A custom policy that inherits the name of another policy."""

    def uses_batch_statistics(self, *, training):
        return True


def test_a_custom_policy_is_restored_from_a_file(tmp_path):
    model = maml(batch_normalised(), batch_norm=Batchwise())
    model.compile("sgd")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.batch_norm) is Batchwise
    task, _ = regression()
    np.testing.assert_array_equal(
        loaded.predict(task, verbose=0), model.predict(task, verbose=0)
    )
    model.export(tmp_path / "export", verbose=0)
    x, y = task["support_x"][0], task["support_y"][0]
    revived = to_keras(tmp_path / "export")
    adapted = fine_tune(tmp_path / "export", x, y, steps=1)
    expected = model.adapt(x, y, steps=1).predict(x, verbose=0)
    np.testing.assert_allclose(
        adapted.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6
    )
    assert len(revived.variables) == len(model.model.variables)


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match=r"one of \[.*'transductive'\].*'batch'"):
        maml(batch_normalised(), batch_norm="batch")


@pytest.mark.parametrize("policy", ["transductive", "running"])
def test_meta_gradients_alone_change_nothing(policy):
    model = maml(batch_normalised(), batch_norm=policy)
    before = numpy_variables(model)
    model.compute_meta_gradients(regression())
    assert_identical(before, numpy_variables(model))


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


class InInferenceMode(keras.Model):
    """Keras's idiom for a pretrained network: `base(x, training=False)`.

    In a functional model, Keras itself would override this `training=False` in `fit`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.base, self.head = batch_normalised(outputs=4), keras.layers.Dense(2)
        self.base(np.zeros([1, 3]))
        self.head.build([None, 4])
        self.built = True

    def call(self, x):
        return self.head(self.base(x, training=False))


def test_an_overridden_training_false_gives_a_warning():
    task = regression()[0]
    with pytest.warns(UserWarning, match="`training=False`, which the batch-norm pol"):
        maml(InInferenceMode()).compute_meta_gradients(regression())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maml(InInferenceMode(), batch_norm="frozen")(task)
        maml(batch_normalised()).compute_meta_gradients(regression())
        maml(batch_normalised()).predict(task, verbose=0)


def test_evaluate_runs_without_dropout():
    model, (task, query_y) = maml(with_dropout()), regression()
    model.compile("sgd")
    expected = np.square(model.predict_on_batch(task) - query_y).mean()
    found = model.test_on_batch(task, query_y), model.evaluate(task, query_y, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32


def test_generators_of_a_task_get_different_seeds():
    layers = keras.layers
    model = keras.Sequential([keras.Input([3]), layers.Dropout(0.5), layers.Dense(3)])
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(2))
    seeds = maml(model)._seeds(regression()[0], None)["seeds"].numpy()
    assert seeds.shape == (2, 2, 2)  # [tasks, generators, 2]
    assert len(np.unique(seeds.reshape(4, 2), axis=0)) == 4
