"""The hand-written derivative of batch norm, compared with the plain formula."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_keras.backend.batch_norm import batch_normalised, fits
from maml_keras.learner.learner import Learner

EPSILON = 1e-3


def plain(x, scale, offset):
    axes = list(range(x.shape.rank - 1))
    mean = tf.reduce_mean(x, axes)
    variance = tf.reduce_mean(tf.square(x - mean), axes)
    y = (x - mean) / tf.sqrt(variance + EPSILON) * scale + offset
    return y, mean, variance


def kernel(x, scale, offset):
    return batch_normalised(x, scale, offset, epsilon=EPSILON)


def values(shape):
    rng = np.random.default_rng(0)
    return (
        tf.constant(rng.normal(1.0, 2.0, size=[*shape, 3])),
        tf.constant(rng.normal(1.0, 0.3, size=3)),
        tf.constant(rng.normal(size=3)),
    )


def derivatives(normalise, inputs, of):
    """Three orders of derivatives of a non-linear function of the output."""
    zeros = tf.UnconnectedGradients.ZERO
    with tf.GradientTape() as outermost:
        outermost.watch(inputs)
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.reduce_sum(tf.sin(normalise(*inputs)[of]))
            first = tape.gradient(loss, inputs, unconnected_gradients=zeros)
            mixed = tf.add_n([tf.reduce_sum(tf.sin(3.0 * g)) for g in first])
        second = outer.gradient(mixed, inputs, unconnected_gradients=zeros)
        mixed = tf.add_n([tf.reduce_sum(tf.cos(g)) for g in second])
    third = outermost.gradient(mixed, inputs, unconnected_gradients=zeros)
    return [*first, *second, *third]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("shape", [(7,), (4, 3), (3, 4, 4)], ids=str)
@pytest.mark.parametrize("of", [0, 1, 2], ids=["y", "mean", "variance"])
def test_three_orders_of_derivatives_match_the_formula(shape, of, compiled):
    inputs = values(shape)
    expected = derivatives(plain, inputs, of)
    for order in (1, 2):  # The second and third derivatives are not zero.
        parts = expected[3 * order : 3 * order + 3]
        assert max(np.abs(part).max() for part in parts) > 1e-6
    run = tf.function(derivatives) if compiled else derivatives
    for got, want in zip(run(kernel, inputs, of), expected):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)  # float64


def test_an_unknown_number_of_examples_gives_the_same_derivatives():
    inputs = values((7,))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float64)])
    def open_ended(x):
        return derivatives(kernel, (x, *inputs[1:]), 0)

    for got, want in zip(open_ended(inputs[0]), derivatives(plain, inputs, 0)):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)  # float64


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_layer_gives_the_results_of_keras(scale, center):
    layer = keras.layers.BatchNormalization(
        scale=scale, center=center, momentum=0.7, beta_initializer="random_normal"
    )
    model = keras.Sequential([keras.Input([4, 3]), layer, keras.layers.Dense(1)])
    x = np.random.default_rng(0).normal(1.0, 2.0, size=[5, 4, 3]).astype("float32")
    learner = Learner(model)
    output = learner(learner.weights(), learner.state(), x, training=True)
    expected = model(x, training=True)  # Updates the layer's statistics, too.
    np.testing.assert_allclose(output.predictions, expected, atol=1e-5)  # float32
    for got, variable in zip(output.state, model.non_trainable_variables):
        np.testing.assert_allclose(got, variable, rtol=1e-5)


KNOWN = inspect.signature(keras.layers.BatchNormalization).parameters


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"renorm": True},
            marks=pytest.mark.skipif("renorm" not in KNOWN, reason="not in this Keras"),
        ),
        {"synchronized": True},
        {"axis": 1},
    ],
    ids=str,
)
def test_other_forms_are_left_to_keras(options):
    layer = keras.layers.BatchNormalization(**options)
    x = tf.zeros([2, 4, 3])
    layer.build(x.shape)
    assert not fits(layer, x, None)


def test_masked_and_frozen_layers_are_left_to_keras():
    layer = keras.layers.BatchNormalization()
    x = tf.zeros([2, 4, 3])
    layer.build(x.shape)
    assert fits(layer, x, None)
    assert not fits(layer, x, tf.ones([2, 4], "bool"))
    layer.trainable = False
    assert not fits(layer, x, None)
