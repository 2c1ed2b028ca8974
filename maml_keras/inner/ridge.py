"""The last layer as the ridge regression of the support set (R2-D2)."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from maml_keras.inner.starts import HeadStart, absent_logit


class RidgeNumbers(keras.layers.Layer):
    """The three numbers that a `RidgeHead` learns: log lambda, log scale and offset."""

    def __init__(self, regularization: float, scale: float) -> None:
        super().__init__(name="ridge")
        initial = math.log(regularization), math.log(scale), 0.0
        names = "log_regularization", "log_scale", "offset"
        self.initial = dict(zip(names, initial))

    def build(self, input_shape: Any = None) -> None:
        """Creates the numbers."""
        for name, value in self.initial.items():
            self.add_weight(
                shape=(), initializer=keras.initializers.Constant(value), name=name
            )
        self.built = True


@keras.saving.register_keras_serializable(package="maml_keras")
class RidgeHead(HeadStart):
    """The last layer is the ridge regression of the support set (R2-D2).

    `W = argmin_W  1/n sum_i |x_i W - y_i|^2 + lambda |W|^2`, solved exactly. `x_i` are
    the features of support example i, followed by a one for the bias; `y_i` is the
    one-hot class, or the target of a regression. The layer predicts
    `scale * x W + offset`.

    Meta-training trains the features and three numbers: log lambda, log scale (so that
    both stay positive) and the offset. The layer's own initial weights are never used.
    As in the authors' code, lambda weighs against the mean over the n examples, so it
    does not depend on the number of shots.

    An episode may have any number of classes up to the units of the layer, because a
    class without support examples gets no probability.

    Args:
        regularization: float above 0, the initial lambda.
        scale: float above 0, the initial scale.

    Raises:
        ValueError: if an argument is not above 0 and finite.

    Reference: Bertinetto et al., 2019, https://arxiv.org/abs/1805.08136

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.SGD(0.0), steps=0, start=RidgeHead(0.1))
    >>> maml = mk.MAML(mk.models.mlp(), inner)
    >>> [v.name for v in inner.start_from.learned.weights]
    ['log_regularization', 'log_scale', 'offset']
    """

    def __init__(self, regularization: float = 1.0, scale: float = 1.0) -> None:
        self.regularization = _above_zero("regularization", regularization)
        self.scale = _above_zero("scale", scale)
        self._numbers = RidgeNumbers(self.regularization, self.scale)

    @property
    def learned(self) -> keras.layers.Layer:
        return self._numbers

    def check(self, model: keras.Model) -> None:
        super().check(model)
        if not self._numbers.built:
            self._numbers.build()

    def weights_of(
        self, features: Any, y: Any, weight: Any = None, *, units: int
    ) -> tuple[Any, Any]:
        dtype = keras.backend.result_type(features.dtype, "float32")
        log_lambda, log_scale, offset = (
            tf.cast(tf.convert_to_tensor(v.value), dtype) for v in self._numbers.weights
        )
        targets = _targets(y, units, dtype)
        share = tf.ones_like(targets[:, 0])
        if weight is not None:
            share = tf.cast(weight, dtype)
        are_classes = not _are_rows(y, units)
        if are_classes:
            # An ignored label, such as -1, is in no class.
            share *= tf.reduce_sum(targets, axis=1)
        kernel, bias = ridge_weights(
            tf.cast(features, dtype), targets, share, regularization=tf.exp(log_lambda)
        )
        scale = tf.exp(log_scale)
        kernel, bias = scale * kernel, scale * bias + offset
        if are_classes:
            absent = tf.constant(absent_logit(features.dtype), dtype)
            counts = tf.linalg.matvec(targets, share, transpose_a=True)
            bias = tf.where(counts > 0.0, bias, absent)
        return kernel, bias

    @property
    def frees_ways(self) -> bool:
        return True

    @property
    def needs_classes(self) -> bool:
        return False

    def get_config(self) -> dict[str, Any]:
        return {"regularization": self.regularization, "scale": self.scale}


def ridge_weights(
    features: Any, targets: Any, weight: Any = None, *, regularization: Any
) -> tuple[Any, Any]:
    """The linear layer with the least squared error and small weights.

    `min  sum_i w_i |x_i K + b - y_i|^2 / sum_i w_i + lambda (|K|^2 + |b|^2)`. The
    solution is `[K; b] = X' (X X' + lambda)^-1 Y`, so the system has the size of the
    support set (Woodbury), however many features there are.

    Args:
        features: float tensor `[examples, features]`.
        targets: float tensor `[examples, outputs]`.
        weight: None, or `[examples]`; zero for padding.
        regularization: scalar above 0, lambda.

    Returns:
        Kernel `[features, outputs]` and bias `[outputs]`.

    Reference: Bertinetto et al., 2019, https://arxiv.org/abs/1805.08136

    >>> x, y = tf.constant([[1.0], [-1.0]]), tf.constant([[2.0], [-2.0]])
    >>> kernel, bias = ridge_weights(x, y, regularization=1.0)
    >>> kernel.numpy().round(4), bias.numpy()  # 2 / (1 + lambda)
    (array([[1.]], dtype=float32), array([0.], dtype=float32))
    """
    if weight is None:
        weight = tf.ones_like(targets[:, 0])
    root = tf.sqrt(tf.math.divide_no_nan(weight, tf.reduce_sum(weight)))[:, None]
    # The one behind the features adds a one to each product, so nothing is appended.
    products = tf.linalg.matmul(features, features, transpose_b=True) + 1.0
    identity = tf.eye(tf.shape(features)[0], dtype=features.dtype)
    system = root * products * tf.transpose(root) + regularization * identity
    solved = tf.linalg.cholesky_solve(tf.linalg.cholesky(system), root * targets)
    dual = root * solved
    kernel = tf.linalg.matmul(features, dual, transpose_a=True)
    return kernel, tf.reduce_sum(dual, axis=0)


def _targets(y: Any, units: int, dtype: Any) -> Any:
    """One row `[units]` for each example: its target, or its one-hot class."""
    if _are_rows(y, units):
        return tf.cast(tf.reshape(y, [-1, units]), dtype)
    return tf.one_hot(tf.cast(tf.reshape(y, [-1]), tf.int32), units, dtype=dtype)


def _are_rows(y: Any, units: int) -> bool:
    """Whether targets are rows of numbers, as wide as the layer; else classes."""
    return units == 1 or tuple(y.shape[1:]) == (units,)


def _above_zero(name: str, value: float) -> float:
    if not 0.0 < float(value) < float("inf"):
        raise ValueError(
            f"`{name}` must be a finite number above 0. Received: {name}={value!r}."
        )
    return float(value)
