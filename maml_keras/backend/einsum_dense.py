"""Dense layers in Einstein notation as plain matrix products."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.overrides import ScopedOverride


def as_products() -> contextlib.AbstractContextManager[None]:
    """A scope in which `keras.layers.EinsumDense` is one matrix product if possible.

    `"abc,cde->abde"` contracts the last axes of the input with the first axes of the
    kernel. After a reshape this is `[ab, c] x [c, de]`. Its derivatives are products
    too, without the planning and transposes of an einsum. Other equations, biases that
    do not have all new axes, and quantized layers, which have their own call, keep
    Keras's code.
    """
    return _override.scope()


def contracted_axes(equation: str) -> int:
    """The number of contracted axes, or 0 if the equation is not a plain product.

    Args:
        equation: str, such as `"abc,cde->abde"`.

    >>> contracted_axes("abc,cde->abde"), contracted_axes("abcd,cde->abe")
    (1, 2)
    >>> contracted_axes("abc,abd->acd"), contracted_axes("...x,xy->...y")
    (0, 0)
    """
    inputs, _, output = equation.partition("->")
    left, _, right = inputs.partition(",")
    for count in range(1, min(len(left), len(right)) + 1):
        kept, units = left[:-count], right[count:]
        letters = left + units
        if left[-count:] == right[:count] and output == kept + units:
            plain = letters.isalpha() and len(set(letters)) == len(letters)
            return count if plain else 0
    return 0


def _call(
    _: None,
    original: Any,
    layer: keras.layers.EinsumDense,
    /,
    inputs: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    count = contracted_axes(layer.equation)
    # Keras's own low-rank adapters (`enable_lora`) are part of this kernel.
    kernel = tf.convert_to_tensor(layer.kernel)
    if not count or not _fits(layer, inputs, kernel, count):
        return original(layer, inputs, *args, **kwargs)
    units = kernel.shape[count:]
    rows = tf.reshape(inputs, [-1, math.prod(kernel.shape[:count])])
    y = tf.linalg.matmul(rows, tf.reshape(kernel, [-1, math.prod(units)]))
    if layer.bias is not None:
        y = tf.nn.bias_add(y, tf.reshape(tf.convert_to_tensor(layer.bias), [-1]))
    shape = tf.shape(inputs)
    kept = [shape[i] if n is None else n for i, n in enumerate(inputs.shape[:-count])]
    y = tf.reshape(y, [*kept, *units])
    return y if layer.activation is None else layer.activation(y)


def _fits(layer: Any, inputs: Any, kernel: Any, count: int) -> bool:
    """True if a product with the kernel gives the result of the layer."""
    bias = layer.bias
    return (
        isinstance(inputs, tf.Tensor)
        and inputs.dtype == kernel.dtype
        and inputs.dtype.is_floating
        and len(inputs.shape) == layer.equation.index(",")
        and (bias is None or tuple(bias.shape) == tuple(kernel.shape[count:]))
    )


_override = ScopedOverride(keras.layers.EinsumDense, "call", _call)
