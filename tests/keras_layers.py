"""A layer computed by the library beside the same layer in Keras."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

from maml_keras.backend.attention import heads_first
from maml_keras.backend.einsum_dense import as_products
from maml_keras.backend.layer_norm import written_out

TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


@contextlib.contextmanager
def ours():
    with heads_first(), written_out(), as_products():
        yield


def normal(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return tf.constant(values, keras.config.floatx())


def randomised(layer, *inputs, **options):
    """The layer after a first call, with random weights and biases."""
    layer(*inputs, **options)
    for seed, variable in enumerate(layer.trainable_variables):
        variable.assign(0.5 * normal(*variable.shape, seed=seed + 10) + 0.3)
    return layer


def results(layer, inputs, **options):
    """The output, and its first and second derivatives in inputs and weights."""
    of = [*inputs, *(v.value for v in layer.trainable_variables)]
    with tf.GradientTape() as outer:
        outer.watch(of)
        with tf.GradientTape() as tape:
            tape.watch(of)
            output = layer(*inputs, **options)
            loss = tf.reduce_sum(tf.sin(output))
        first = [
            tf.convert_to_tensor(g)
            for g in tape.gradient(loss, of, unconnected_gradients="zero")
        ]
        mixed = tf.add_n([tf.reduce_sum(tf.sin(3.0 * g)) for g in first])
    second = outer.gradient(mixed, of, unconnected_gradients="zero")
    return output, first, second


def assert_same(layer, inputs, scope, *, reference=contextlib.nullcontext, **options):
    randomised(layer, *inputs, **options)
    with reference():
        expected = tf.nest.flatten(results(layer, inputs, **options))
    with scope():
        got = tf.nest.flatten(results(layer, inputs, **options))
    # Sums run in another order, so tolerances are relative to the largest entry.
    tolerance = TOLERANCE[keras.config.floatx()]
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        largest = np.abs(b).max()
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, largest))
    assert np.abs(expected[-1]).max() > 1e-3  # The second derivative is not zero.


def operations(layer, *inputs, **options):
    function = tf.function(functools.partial(layer, **options), autograph=False)
    return {
        op.type for op in function.get_concrete_function(*inputs).graph.get_operations()
    }
