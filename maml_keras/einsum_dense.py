"""Dense layers in Einstein notation as plain matrix products."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import keras
import tensorflow as tf

from maml_keras.scoped_override import ScopedOverride


def as_products() -> contextlib.AbstractContextManager[None]:
    """A scope in which `keras.layers.EinsumDense` is one matrix product where it can.

    `"abc,cde->abde"` contracts the last axes of the input with the first of the kernel:
    reshaped, that is `[ab, c] x [c, de]`, and its derivatives are products too, without
    an einsum's planning for each of them. Other equations run as Keras has them.
    """
    return _override.scope()


def contracted_axes(equation: str) -> int:
    """How many axes a product contracts, or 0 where the equation is no plain product.

    Args:
        equation: str, such as `"abc,cde->abde"`.

    >>> contracted_axes("abc,cde->abde"), contracted_axes("abcd,cde->abe")
    (1, 2)
    >>> contracted_axes("abc,abd->acd"), contracted_axes("...x,xy->...y")
    (0, 0)
    """
    inputs, _, output = equation.replace(" ", "").partition("->")
    left, _, right = inputs.partition(",")
    if not (left + right + output).isalpha():
        return 0
    for count in range(1, min(len(left), len(right)) + 1):
        if left[-count:] == right[:count] and output == left[:-count] + right[count:]:
            return count
    return 0


def _call(
    value: None,
    original: Any,
    layer: keras.layers.EinsumDense,
    inputs: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    count = contracted_axes(layer.equation)
    kernel = layer.kernel
    if not count or (layer.bias is not None and len(layer.bias.shape) != len(kernel.shape) - count):
        return original(layer, inputs, *args, **kwargs)
    kernel = tf.convert_to_tensor(kernel)
    inputs = tf.convert_to_tensor(inputs)
    kept = inputs.shape[:-count]
    units = kernel.shape[count:]
    rows = tf.reshape(inputs, [-1, math.prod(kernel.shape[:count])])
    y = tf.linalg.matmul(rows, tf.reshape(kernel, [rows.shape[-1], -1]))
    if layer.bias is not None:
        y = tf.nn.bias_add(y, tf.reshape(tf.convert_to_tensor(layer.bias), [-1]))
    shape = tf.shape(inputs)
    sizes = [shape[i] if n is None else n for i, n in enumerate(kept)]
    y = tf.reshape(y, [*sizes, *units])
    return y if layer.activation is None else layer.activation(y)


_override = ScopedOverride(keras.layers.EinsumDense, "call", _call)
