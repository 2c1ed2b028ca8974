"""Dropout in inner, outer and evaluation passes, under each batch-norm policy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    classification,
    maml,
    regression,
    with_dropout,
)

import maml_keras as mk
from maml_keras.outer.meta_step import seeds_of

pytestmark = pytest.mark.usefixtures("without_graphs")

POLICIES = [
    "transductive",
    "inductive",
    "support",
    "beside",
    "running",
    "per_step",
    "per_step_running",
    "frozen",
]
ESTIMATORS = {
    "backprop": lambda: mk.Backprop(),
    "multi_step": lambda: mk.Backprop(mk.MultiStep(epochs=1, steps_per_epoch=1)),
    "first_order": lambda: mk.FirstOrder(),
    "reptile": lambda: mk.Reptile(),
    "implicit": lambda: mk.Implicit(1),
}
SUPPORT, QUERY = 4, 3
PASSES = []


@keras.saving.register_keras_serializable(package="tests")
class Witness(keras.layers.Layer):
    """Records for each pass the number of examples, and whether dropout is active."""

    def call(self, x, training=False):
        PASSES.append((x.shape[0], bool(training)))
        return x


def observed(policy="transductive", *, outputs=2, loss="mse", start=None, **kwargs):
    model = keras.Sequential(
        [
            keras.Input([3]),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.BatchNormalization(),
            Witness(),
            keras.layers.Dense(outputs, name="head"),
        ]
    )
    inner = mk.InnerLoop(loss, mk.SGD(0.1), steps=2, start=start, proximal=0.5)
    if start is not None:
        inner = mk.InnerLoop(loss, mk.SGD(0.1), steps=2, start=start)
    return mk.MAML(model, inner, batch_norm=policy, task_map="sequential", **kwargs)


def passes(run):
    PASSES.clear()
    run()
    return set(PASSES)


@pytest.mark.parametrize("policy", POLICIES)
def test_dropout_is_on_in_training_passes_and_off_afterwards(policy):
    maml, batch = observed(policy), regression(support=SUPPORT, queries=QUERY)
    on, off = ({(SUPPORT, flag), (QUERY, flag)} for flag in (True, False))
    assert passes(lambda: maml.compute_meta_gradients(batch)) == on
    assert passes(lambda: maml(batch[0], training=True)) == on
    assert passes(lambda: maml(batch[0])) == off
    assert passes(lambda: mk.evaluate_episodes(maml, [batch], verbose=0)) == off
    task = batch[0]
    adapting = passes(lambda: maml.adapt(task["support_x"][0], task["support_y"][0]))
    assert {flag for _, flag in adapting} == {False}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_estimator_trains_with_dropout(estimator):
    maml = observed(meta_gradient=ESTIMATORS[estimator]())
    batch = regression(support=SUPPORT, queries=QUERY)
    seen = passes(lambda: maml.compute_meta_gradients(batch))
    assert seen == {(SUPPORT, True), (QUERY, True)}


def test_prototypes_are_computed_with_dropout_in_training_only():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = observed(outputs=3, loss=loss, start=mk.PrototypicalHead())
    batch = classification(shots=2, queries=1)
    task = batch[0]
    assert passes(lambda: maml.compute_meta_gradients(batch)) == {(6, True), (3, True)}
    assert passes(lambda: maml(task)) == {(6, False), (3, False)}
    adapting = passes(lambda: maml.adapt(task["support_x"][0], task["support_y"][0]))
    assert {flag for _, flag in adapting} == {False}


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
    seeds = seeds_of(maml(model), regression()[0], None)["seeds"].numpy()
    assert seeds.shape == (2, 2, 2)  # [tasks, generators, 2]
    assert len(np.unique(seeds.reshape(4, 2), axis=0)) == 4
