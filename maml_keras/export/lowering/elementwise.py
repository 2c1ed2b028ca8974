"""Operations that act on each number alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.export.lowering.table import lowers
from maml_keras.export.lowering.values import Node, is_known, tensor


@lowers("ReluGrad")
def _relu(node: Node, upstream: Any, y: Any) -> Any:
    return upstream * tf.cast(y > 0, upstream.dtype)


@lowers("Relu6Grad")
def _relu6(node: Node, upstream: Any, y: Any) -> Any:
    return upstream * tf.cast((y > 0) & (y < 6), upstream.dtype)


@lowers("LeakyReluGrad")
def _leaky_relu(node: Node, upstream: Any, x: Any) -> Any:
    return tf.where(x > 0, upstream, upstream * node.number("alpha"))


@lowers("EluGrad")
def _elu(node: Node, upstream: Any, y: Any) -> Any:
    return tf.where(y < 0, upstream * (y + 1), upstream)


@lowers("SeluGrad")
def _selu(node: Node, upstream: Any, y: Any) -> Any:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return tf.where(y < 0, upstream * (y + scale * alpha), upstream * scale)


@lowers("TanhGrad")
def _tanh(node: Node, y: Any, upstream: Any) -> Any:
    return upstream * (1 - y * y)


@lowers("SigmoidGrad")
def _sigmoid(node: Node, y: Any, upstream: Any) -> Any:
    return upstream * (y * (1 - y))


@lowers("RsqrtGrad")
def _rsqrt(node: Node, y: Any, upstream: Any) -> Any:
    return upstream * (-0.5 * (y * y * y))


@lowers("SqrtGrad")
def _sqrt(node: Node, y: Any, upstream: Any) -> Any:
    return upstream * 0.5 / y


@lowers("ReciprocalGrad", "InvGrad")
def _reciprocal(node: Node, y: Any, upstream: Any) -> Any:
    return -upstream * y * y


@lowers("SoftplusGrad")
def _softplus_gradient(node: Node, upstream: Any, x: Any) -> Any:
    return upstream * tf.sigmoid(x)


@lowers("SoftsignGrad")
def _softsign_gradient(node: Node, upstream: Any, x: Any) -> Any:
    return upstream / tf.square(1 + tf.abs(x))


@lowers("Softplus")
def _softplus(node: Node, x: Any) -> Any:
    # ONNX Runtime's own is fine, but LiteRT has none.
    return tf.nn.relu(x) + tf.math.log(1 + tf.exp(-tf.abs(x)))


@lowers("Softsign")
def _softsign(node: Node, x: Any) -> Any:
    return x / (1 + tf.abs(x))


# Numerator of odd and denominator of even powers, from the highest: the rational
# function of Eigen and XLA, exact to float32.
_ERF_ODD = (
    *(-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06),
    *(-5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03),
    -1.60960333262415e-02,
)
_ERF_EVEN = (
    *(-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03),
    *(-7.37332916720468e-03, -1.42647390514189e-02),
)


@lowers("Erf")
def _erf(node: Node, x: Any) -> Any:
    # LiteRT has none.
    x = tf.clip_by_value(x, -4.0, 4.0)
    square = x * x
    above, below = (tf.math.polyval([*p], square) for p in (_ERF_ODD, _ERF_EVEN))
    return x * above / below


@lowers("Erfc")
def _erfc(node: Node, x: Any) -> Any:
    return 1 - _erf(node, x)


@lowers("Log1p")
def _log1p(node: Node, x: Any) -> Any:
    return tf.math.log(1 + x)


@lowers("Expm1")
def _expm1(node: Node, x: Any) -> Any:
    return tf.exp(x) - 1


@lowers("DivNoNan")
def _divide_no_nan(node: Node, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    zero = tf.equal(b, 0)
    return tf.where(zero, tf.zeros([], a.dtype), a / tf.where(zero, tf.ones_like(b), b))


@lowers("MulNoNan")
def _multiply_no_nan(node: Node, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    return tf.where(tf.equal(b, 0), tf.zeros([], a.dtype), a * b)


@lowers("Xdivy")
def _divide_of_zero(node: Node, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    return tf.where(tf.equal(a, 0), tf.zeros([], a.dtype), a / b)


@lowers("Xlogy")
def _log_of_zero(node: Node, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    return tf.where(tf.equal(a, 0), tf.zeros([], a.dtype), a * tf.math.log(b))


@lowers("AddN")
def _add(node: Node, *parts: Any) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


@lowers("IsFinite")
def _is_finite(node: Node, x: Any) -> Any:
    # Not with `logical_not`: TensorFlow's optimiser turns `not a <= b` into `a > b`,
    # which NaN makes false, too.
    return tf.abs(x) <= x.dtype.max


def all_finite(x: Any) -> Any:
    """A scalar: whether no number, and not their sum, is infinite or NaN."""
    # A sum is NaN or infinite if one of its numbers is. Runtimes add numbers faster
    # than they compare and count them.
    return tf.abs(tf.reduce_sum(x)) <= x.dtype.max


@lowers("IsInf")
def _is_infinite(node: Node, x: Any) -> Any:
    return tf.equal(tf.abs(x), np.inf)


@lowers(
    "CheckNumerics",
    "CheckNumericsV2",
    "EnsureShape",
    "Identity",
    "PreventGradient",
    "Snapshot",
    "StopGradient",
)
def _unchanged(node: Node, x: Any, *more: Any) -> Any:
    return x


@lowers("IdentityN")
def _all_unchanged(node: Node, *values: Any) -> Any:
    return list(values)


@lowers("BiasAddGrad")
def _bias(node: Node, upstream: Any) -> Any:
    if node.text("data_format") == "NCHW":
        axes = [0, *range(2, upstream.shape.rank)]
    else:
        axes = list(range(upstream.shape.rank - 1))
    return tf.reduce_sum(upstream, axes)


@lowers("ZerosLike")
def _zeros(node: Node, x: Any) -> Any:
    return np.zeros_like(x) if is_known(x) else tf.zeros(tf.shape(x), x.dtype)


@lowers("OnesLike")
def _ones(node: Node, x: Any) -> Any:
    return np.ones_like(x) if is_known(x) else tf.ones(tf.shape(x), x.dtype)
