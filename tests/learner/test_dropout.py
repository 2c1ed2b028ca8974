"""Dropout in inner, outer and evaluation passes, under each batch-norm policy."""

import keras
import pytest
from helpers import classification, regression

import maml_keras as mk

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
