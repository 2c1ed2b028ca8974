"""Convolutions, max-pooling and padding in forms that run for all tasks at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import nn
from tensorflow.python.ops.parallel_for import pfor

from maml_keras.backend.convolutions import convolved, max_pooled, transposed
from maml_keras.backend.overrides import Entries, ScopedOverride
from maml_keras.backend.windows import Axis


@contextlib.contextmanager
def with_task_axis() -> Iterator[None]:
    """A scope in which Keras's convolutions and max-pooling accept a task axis.

    `y = windows(x) k`: the windows of the input are slices, and the convolution is one
    product with the kernel. A transposed convolution is the transpose of this form.
    Max-pooling is a running maximum over slices.

    TensorFlow cannot run a convolution for all tasks at once if each task has its own
    kernel. Slices and products take a task axis: the product becomes a batched product
    with one kernel for each task, and so do its first and second derivative. XLA
    compiles these forms, too. (XLA's second derivative of TensorFlow's max-pooling is
    wrong.)

    `keras.ops.conv`, `depthwise_conv`, `separable_conv`, `conv_transpose` and
    `max_pool`, with every stride, dilation, padding, number of groups and data format,
    have these forms, and so do all layers that call them. Inputs with axes of unknown
    length keep Keras's code.

    Padding with a value other than zero is mended in this scope, too: TensorFlow's
    vectorised map would pad with zeros. A value that differs between tasks has no form
    with a task axis.

    >>> import keras
    >>> x = tf.ones([1, 3, 1])
    >>> with with_task_axis():
    ...     keras.ops.conv(x, tf.ones([2, 1, 1])).numpy().ravel()
    array([2., 2.], dtype=float32)
    """
    with contextlib.ExitStack() as stack:
        for override in _overrides:
            stack.enter_context(override.scope())
        yield


def _conv(
    _: None,
    original: Any,
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    x, kernel = _channels_last(inputs, data_format), tf.convert_to_tensor(kernel)
    axes = _axes(x, kernel.shape[:-2], strides, padding, dilation_rate)
    if not axes:
        return original(inputs, kernel, strides, padding, data_format, dilation_rate)
    return _as_before(convolved(x, kernel, axes), data_format)


def _depthwise(
    _: None,
    original: Any,
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    x, kernel = _channels_last(inputs, data_format), tf.convert_to_tensor(kernel)
    axes = _axes(x, kernel.shape[:-2], strides, padding, dilation_rate)
    if not axes or kernel.shape[-2] != x.shape[-1]:
        return original(inputs, kernel, strides, padding, data_format, dilation_rate)
    # Each channel is a group of its own.
    kernel = tf.reshape(kernel, [*kernel.shape[:-2], 1, math.prod(kernel.shape[-2:])])
    return _as_before(convolved(x, kernel, axes), data_format)


def _separable(
    _: None,
    original: Any,
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    # The original of a depthwise convolution raises what is wrong with the inputs.
    y = nn.depthwise_conv(
        inputs, depthwise_kernel, strides, padding, data_format, dilation_rate
    )
    return nn.conv(y, pointwise_kernel, 1, "valid", data_format, 1)


def _conv_transpose(
    _: None,
    original: Any,
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    x, kernel = _channels_last(inputs, data_format), tf.convert_to_tensor(kernel)
    *sizes, filters, channels = kernel.shape
    settings = strides, padding, output_padding
    if None in x.shape[1:] or channels != x.shape[-1] or len(x.shape) - 2 != len(sizes):
        return original(inputs, kernel, *settings, data_format, dilation_rate)
    lengths = nn.compute_conv_transpose_output_shape(
        [1, *x.shape[1:]], sizes, filters, *settings, "channels_last", dilation_rate
    )[1:-1]
    each = zip(
        lengths,
        sizes,
        _each(strides, len(sizes)),
        _each(dilation_rate, len(sizes)),
    )
    axes = [Axis(*settings) for settings in each]
    if padding.lower() == "same":
        axes = [axis.same(n) for axis, n in zip(axes, x.shape[1:-1])]
    return _as_before(transposed(x, kernel, axes), data_format)


def _max_pool(
    _: None,
    original: Any,
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    x = _channels_last(inputs, data_format)
    sizes = _each(pool_size, len(x.shape) - 2)
    steps = sizes if strides is None else strides
    axes = _axes(x, sizes, steps, padding, 1)
    if not axes or not x.dtype.is_floating:
        return original(inputs, pool_size, strides, padding, data_format)
    return _as_before(max_pooled(x, axes), data_format)


def _pad(_: None, original: Any, inputs: Any) -> list[Any]:
    """`tf.pad` with a value for all tasks; the original drops the value."""
    inputs.stack_inputs([0])
    around, value = inputs.unstacked_input(1), inputs.unstacked_input(2)
    around = tf.pad(around, [[1, 0], [0, 0]])  # No padding of the axis of tasks.
    padded = tf.raw_ops.PadV2(
        input=inputs.stacked_input(0), paddings=around, constant_values=value
    )
    return [pfor.wrap(padded, True)]


def _axes(
    x: Any, sizes: Sequence[int], strides: Any, padding: str, dilation: Any
) -> list[Axis]:
    """The windows of each axis; none if a length is unknown, or no window fits."""
    lengths, kind = x.shape[1:-1], padding.lower()
    if None in x.shape[1:] or len(lengths) != len(sizes):
        return []
    if kind not in ("valid", "same"):
        return []
    found = []
    for length, size, stride, spread in zip(
        lengths, sizes, _each(strides, len(sizes)), _each(dilation, len(sizes))
    ):
        axis = Axis(length, size, stride, spread)
        found.append(axis.same(-(-length // stride)) if kind == "same" else axis)
    return found if all(axis.number > 0 for axis in found) else []


def _each(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _channels_last(x: Any, data_format: str | None) -> Any:
    x = tf.convert_to_tensor(x)
    if _is_first(data_format):
        return tf.transpose(x, [0, *range(2, len(x.shape)), 1])
    return x


def _as_before(y: Any, data_format: str | None) -> Any:
    if _is_first(data_format):
        return tf.transpose(y, [0, len(y.shape) - 1, *range(1, len(y.shape) - 1)])
    return y


def _is_first(data_format: str | None) -> bool:
    return (data_format or keras.config.image_data_format()) == "channels_first"


_overrides = [
    ScopedOverride(nn, "conv", _conv),
    ScopedOverride(nn, "depthwise_conv", _depthwise),
    ScopedOverride(nn, "separable_conv", _separable),
    ScopedOverride(nn, "conv_transpose", _conv_transpose),
    ScopedOverride(nn, "max_pool", _max_pool),
    ScopedOverride(Entries(pfor._pfor_converter_registry), "PadV2", _pad),
]
