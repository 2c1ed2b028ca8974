"""Cross-entropy of soft labels has exact second derivatives."""

import numpy as np
import tensorflow as tf
from helpers import curved_gradient, second_derivative

from maml_keras.backend.cross_entropy import exact_cross_entropy

X = np.random.default_rng(0).normal(size=[6, 4, 4, 2])


def entropy(x):
    return tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(1.3 * x), x)


def test_cross_entropy_equals_the_value_in_tensorflow():
    logits = tf.constant(X)
    for axis in (-1, 1):
        labels = tf.nn.softmax(tf.constant(X[::-1]), axis)
        expected = tf.nn.softmax_cross_entropy_with_logits(labels, logits, axis)
        with exact_cross_entropy():
            got = tf.nn.softmax_cross_entropy_with_logits(labels, logits, axis)
        # float64, the same sums in another order.
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    half = tf.cast(logits, tf.float16)
    with exact_cross_entropy():
        got = tf.nn.softmax_cross_entropy_with_logits(tf.cast(labels, half.dtype), half)
    assert got.dtype == tf.float16


def differences_of_entropy():
    x = tf.constant(X)
    along, moved = np.random.default_rng(1).normal(size=[2, *X.shape])
    found = float(tf.reduce_sum(second_derivative(entropy, x, along) * moved))
    ends = [curved_gradient(entropy, x + s * 1e-5 * moved) for s in (1.0, -1.0)]
    return found, float(tf.reduce_sum((ends[0] - ends[1]) * along)) / 2e-5


def test_second_derivative_of_soft_labels_is_right():
    with exact_cross_entropy():
        found, expected = differences_of_entropy()
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_tensorflows_own_second_derivative_of_soft_labels_is_wrong():
    # If this test fails, TensorFlow was fixed and `exact_cross_entropy` can be removed.
    found, expected = differences_of_entropy()
    assert abs(found - expected) > 0.01 * abs(expected)
