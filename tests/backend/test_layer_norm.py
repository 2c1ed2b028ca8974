"""Layer norm with written-out derivatives gives the results of Keras."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras_layers import assert_same, normal, operations

from maml_keras.backend import layer_norm
from maml_keras.backend.layer_norm import written_out
from maml_keras.backend.moments import exact_moments


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"axis": 2, "epsilon": 0.1},
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
    ],
    ids=str,
)
def test_layer_norm_and_both_derivatives(options, dtype):
    layer = layers.LayerNormalization(**options)
    x = normal(2, 3, 4)
    # Keras's own second derivative lacks a term (see `exact_moments`).
    assert_same(layer, [x], written_out, reference=exact_moments)
    assert "IdentityN" not in operations(layer, x)
    with written_out():
        assert "IdentityN" in operations(layer, x)


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
@pytest.mark.parametrize(
    "options", [{"axis": 1}, {"axis": [1, 2]}, {"rms_scaling": True}], ids=str
)
def test_other_layer_norms_are_left_to_keras(options):
    layer = layers.LayerNormalization(**options)
    x = normal(2, 3, 4)
    assert_same(layer, [x], written_out)
    with written_out():
        assert "IdentityN" not in operations(layer, x)


def plainly_normalised(x, scale, offset, epsilon):
    mean = tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(x - mean), -1, keepdims=True)
    return (x - mean) / tf.sqrt(variance + epsilon) * scale + offset


@pytest.mark.usefixtures("float64")
def test_derivatives_of_layer_norm_of_every_order():
    inputs = [normal(5, 3), normal(3, seed=1), normal(3, seed=2)]

    def derivative(function, order):
        if order == 0:
            return function

        def total(*inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                value = tf.reduce_sum(tf.sin(derivative(function, order - 1)(*inputs)))
            gradients = tape.gradient(value, inputs, unconnected_gradients="zero")
            return tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)

        return total

    plain = functools.partial(plainly_normalised, epsilon=0.1)
    written = functools.partial(layer_norm.layer_normalised, epsilon=0.1)
    for order in range(4):
        expected = derivative(plain, order)(*inputs)
        got = tf.function(derivative(written, order))(*inputs)
        np.testing.assert_allclose(got, expected, atol=1e-11 * np.abs(expected).max())
