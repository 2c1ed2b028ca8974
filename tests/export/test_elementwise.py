"""Each elementwise operation equals what replaces it."""

import numpy as np
import pytest
import tensorflow as tf
from lowered_operation import assert_same, gradient

# Both signs, zero, and numbers at which functions change their form.
X = np.array([[-7.5, -1.0, -0.2, 0.0], [0.2, 1.0, 6.0, 7.5]], "float32")
POSITIVE = np.abs(X) + 0.5


@pytest.mark.parametrize(
    ("function", "x", "operation"),
    [
        (tf.nn.relu, X, "ReluGrad"),
        (tf.nn.relu6, X, "Relu6Grad"),
        (lambda x: tf.nn.leaky_relu(x, 0.3), X, "LeakyReluGrad"),
        (tf.nn.elu, X, "EluGrad"),
        (tf.nn.selu, X, "SeluGrad"),
        (tf.nn.softsign, X, "SoftsignGrad"),
        (tf.tanh, X, "TanhGrad"),
        (tf.sigmoid, X, "SigmoidGrad"),
        (tf.math.rsqrt, POSITIVE, "RsqrtGrad"),
        (tf.sqrt, POSITIVE, "SqrtGrad"),
        (tf.math.reciprocal, POSITIVE, "ReciprocalGrad"),
    ],
)
def test_derivative(function, x, operation):
    assert_same(gradient(function, [0]), x, replaces=[operation])


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (tf.nn.softplus, "Softplus"),
        (lambda x: tf.raw_ops.SoftplusGrad(gradients=x, features=x), "SoftplusGrad"),
        (lambda x: tf.raw_ops.BiasAddGrad(out_backprop=x), "BiasAddGrad"),
        (tf.nn.softsign, "Softsign"),
        (tf.math.erf, "Erf"),
        (tf.math.erfc, "Erfc"),
        (tf.math.expm1, "Expm1"),
        (lambda x: tf.math.log1p(tf.abs(x)), "Log1p"),
        (tf.zeros_like, "ZerosLike"),
        (tf.ones_like, "OnesLike"),
        (lambda x: tf.add_n([x, x * x, x]), "AddN"),
    ],
)
def test_function(function, operation):
    assert_same(function, X, replaces=[operation])


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (tf.math.divide_no_nan, "DivNoNan"),
        (tf.math.multiply_no_nan, "MulNoNan"),
        (tf.math.xdivy, "Xdivy"),
        (lambda x, y: tf.math.xlogy(x, tf.abs(y)), "Xlogy"),
    ],
)
def test_zeros_are_special(function, operation):
    x = np.array([[0.0, 0.0, 2.0, -3.0]], "float32")
    y = np.array([[0.0, 2.0, 4.0, 0.5]], "float32")
    assert_same(function, x, y, replaces=[operation])


@pytest.mark.parametrize("name", ["IsFinite", "IsInf"])
def test_what_is_not_finite_is_found(name):
    x = np.array([[np.nan, np.inf, -np.inf, 0.0, 3.4e38]], "float32")
    kind = {"IsFinite": tf.math.is_finite, "IsInf": tf.math.is_inf}[name]
    assert_same(lambda x: tf.cast(kind(x), tf.float32), x, replaces=[name])
