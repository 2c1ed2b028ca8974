"""Moments compared with NumPy, and second derivatives with closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_keras.backend.moments import exact_moments

X = np.random.default_rng(0).normal(size=[4, 5, 3])


@pytest.mark.parametrize("axes", [[0], [1], [0, 1], [-1], [0, 1, 2]])
@pytest.mark.parametrize("keepdims", [False, True])
def test_moments_equal_the_moments_of_numpy(axes, keepdims):
    with exact_moments():
        mean, variance = tf.nn.moments(tf.constant(X), axes, keepdims=keepdims)
    axes = tuple(axes)
    # float64.
    np.testing.assert_allclose(mean, X.mean(axes, keepdims=keepdims), rtol=1e-12)
    np.testing.assert_allclose(variance, X.var(axes, keepdims=keepdims), rtol=1e-12)


def test_half_precision_is_summed_in_float32():
    x = tf.constant(np.full([4096], 3.0), tf.float16)
    with exact_moments():
        mean, variance = tf.nn.moments(x, [0])
    assert (mean.dtype, variance.dtype) == (tf.float16, tf.float16)
    # Adding 4096 threes in float16 would not be exact.
    assert (float(mean), float(variance)) == (3.0, 0.0)


def second_derivative():
    """d^2 variance / dx^2, whose closed form is 2/n (identity - 1/n)."""
    x = tf.constant([1.0, 2.0, 4.0, 8.0], tf.float64)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            variance = tf.nn.moments(x, [0])[1]
        gradient = inner.gradient(variance, x)
    return outer.jacobian(gradient, x, experimental_use_pfor=False).numpy()


CLOSED_FORM = 2 / 4 * (np.eye(4) - 1 / 4)


def test_second_derivative_is_the_closed_form():
    with exact_moments():
        np.testing.assert_allclose(second_derivative(), CLOSED_FORM, atol=1e-14)


def test_tensorflows_own_second_derivative_is_wrong():
    # If this test fails, TensorFlow was fixed and `exact_moments` can be removed.
    assert np.abs(second_derivative() - CLOSED_FORM).max() > 0.1


def test_keras_moments_are_exact_inside():
    x = tf.constant(X)
    with exact_moments():
        mean, variance = keras.ops.moments(x, axes=[0])
        expected = tf.nn.moments(x, [0])
    np.testing.assert_array_equal(mean, expected[0])
    np.testing.assert_array_equal(variance, expected[1])


def test_tensorflow_is_unchanged_outside_the_scope():
    before = tf.nn.moments
    with exact_moments():
        assert tf.nn.moments is not before
    assert tf.nn.moments is before
    assert before.__module__.startswith("tensorflow")
