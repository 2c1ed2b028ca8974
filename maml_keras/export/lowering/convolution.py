"""Derivatives of convolutions, in any number of spatial dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.export.lowering.shapes import spaced
from maml_keras.export.lowering.table import lowers
from maml_keras.export.lowering.values import Node, is_known, shape_of, sizes_in
from maml_keras.export.lowering.windows import Windows


@lowers("Conv2DBackpropFilter", "Conv3DBackpropFilterV2")
def _kernel(node: Node, x: Any, sizes: Any, upstream: Any) -> Any:
    """One product of all windows with the upstream gradient, for each group."""
    *kernel, inputs, outputs = _sizes(node, sizes)
    windows = Windows.of(node, shape_of(x)[1:-1], kernel)
    groups = shape_of(x)[-1] // inputs
    seen = list(windows.views(x))
    parts = [
        _product(
            [view[..., g * inputs : (g + 1) * inputs] for view in seen]
            if groups > 1
            else seen,
            upstream[..., g * outputs // groups : (g + 1) * outputs // groups]
            if groups > 1
            else upstream,
        )
        for g in range(groups)
    ]
    found = parts[0] if groups == 1 else tf.concat(parts, -1)
    return tf.reshape(found, [*kernel, inputs, outputs])


def _product(views: list[Any], upstream: Any) -> Any:
    """`[places * inputs, outputs]`, the sum over all windows."""
    rows = [tf.reshape(view, [-1, view.shape[-1]]) for view in views]
    columns = tf.reshape(upstream, [-1, upstream.shape[-1]])
    seen = rows[0] if len(rows) == 1 else tf.concat(rows, -1)
    return tf.matmul(seen, columns, transpose_a=True)


@lowers("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def _input(node: Node, sizes: Any, kernel: Any, upstream: Any) -> Any:
    """A convolution of the upstream gradient with the reversed kernel."""
    *places, inputs, outputs = shape_of(kernel)
    wanted = _sizes(node, sizes)
    windows = Windows.of(node, wanted[1:-1], places)
    groups = (wanted[-1] or inputs) // inputs
    if groups == 1:
        return _transposed(windows, kernel, upstream)
    size = outputs // groups
    cuts = [slice(g * size, (g + 1) * size) for g in range(groups)]
    parts = [_transposed(windows, kernel[..., c], upstream[..., c]) for c in cuts]
    return tf.concat(parts, -1)


def _transposed(windows: Windows, kernel: Any, upstream: Any) -> Any:
    strides, dilations = set(windows.strides), set(windows.dilations)
    if (
        len(windows.sizes) == 2
        and len(strides) == 1 < max(strides)
        and dilations == {1}
    ):
        return _in_phases(windows, kernel, upstream)
    convolve = tf.nn.conv2d if len(windows.sizes) == 2 else tf.nn.conv3d
    return convolve(
        _around(windows, upstream),
        _reversed(kernel),
        [1] * (len(windows.sizes) + 2),
        "VALID",
        dilations=[1, *windows.dilations, 1],
    )


def _in_phases(windows: Windows, kernel: Any, upstream: Any) -> Any:
    """As one convolution without zeros between the numbers of the upstream gradient.

    With `p = q s + r` and `k = m s + r`, `dx[p] = sum_m dy[q - m] w[m s + r]`: the
    places of one remainder `r` see a smaller kernel, and all remainders are the
    channels of one convolution. For a stride of 2 this is under half of the products.
    """
    stride, (*places, inputs, outputs) = windows.strides[0], shape_of(kernel)
    reach = [-(-k // stride) for k in places]
    filled = [[0, m * stride - k] for m, k in zip(reach, places)]
    parts = tf.reshape(
        tf.pad(kernel, [*filled, [0, 0], [0, 0]]),
        [reach[0], stride, reach[1], stride, inputs, outputs],
    )
    channels = stride * stride * inputs
    phases = tf.reshape(
        tf.transpose(parts, [0, 2, 1, 3, 4, 5]), [*reach, channels, outputs]
    )
    ends = [-(-(b + n) // stride) for b, n in zip(windows.before, windows.sizes)]
    around = [[m - 1, max(q - o, 0)] for m, q, o in zip(reach, ends, windows.outputs)]
    seen = tf.pad(upstream, [[0, 0], *around, [0, 0]])
    found = tf.nn.conv2d(seen, _reversed(phases), 1, "VALID")
    rows = tf.nn.depth_to_space(found, stride)
    cut = [slice(b, b + n) for b, n in zip(windows.before, windows.sizes)]
    return rows[(slice(None), *cut, slice(None))]


def _around(windows: Windows, upstream: Any) -> Any:
    """The upstream gradient, spaced by the strides, with zeros around it."""
    x = spaced(upstream, dict(enumerate(windows.strides, start=1)))
    paddings = [[0, 0]]
    cut = [slice(None)]
    for i, size in enumerate(windows.sizes):
        reach = (windows.kernel[i] - 1) * windows.dilations[i]
        length = (windows.outputs[i] - 1) * windows.strides[i] + 1
        before = reach - windows.before[i]
        after = size + reach - length - before
        # Padding that is larger than the kernel's reach cuts numbers off.
        cut.append(slice(max(-before, 0), length - max(-after, 0)))
        paddings.append([max(before, 0), max(after, 0)])
    if any(
        s != slice(0, (o - 1) * t + 1)
        for s, o, t in zip(cut[1:], windows.outputs, windows.strides)
    ):
        x = x[tuple(cut)]
    return tf.pad(x, [*paddings, [0, 0]])


def _reversed(kernel: Any) -> Any:
    """The kernel with its places in reverse and its channels exchanged."""
    *places, inputs, outputs = shape_of(kernel)
    count = int(np.prod(places))
    flat = tf.reshape(kernel, [count, inputs, outputs])
    turned = tf.gather(flat, np.arange(count, dtype=np.int32)[::-1])
    return tf.reshape(tf.transpose(turned, [0, 2, 1]), [*places, outputs, inputs])


@lowers("DepthwiseConv2dNativeBackpropFilter")
def _depthwise_kernel(node: Node, x: Any, sizes: Any, upstream: Any) -> Any:
    *kernel, inputs, multiplier = _sizes(node, sizes)
    windows = Windows.of(node, shape_of(x)[1:-1], kernel)
    count = int(np.prod(windows.outputs))
    upstream = tf.reshape(upstream, [-1, count, inputs, multiplier])
    rows = [
        tf.reduce_sum(tf.reshape(view, [-1, count, inputs, 1]) * upstream, [0, 1])
        for view in windows.views(x)
    ]
    return tf.reshape(tf.stack(rows), [*kernel, inputs, multiplier])


@lowers("DepthwiseConv2dNativeBackpropInput")
def _depthwise_input(node: Node, sizes: Any, kernel: Any, upstream: Any) -> Any:
    *places, inputs, multiplier = shape_of(kernel)
    windows = Windows.of(node, _sizes(node, sizes)[1:-1], places)
    count = int(np.prod(windows.outputs))
    upstream = tf.reshape(upstream, [-1, count, inputs, multiplier])
    weights = tf.reshape(kernel, [-1, inputs, multiplier])
    return windows.scattered(
        tf.reshape(
            tf.reduce_sum(upstream * weights[i], -1), [-1, *windows.outputs, inputs]
        )
        for i in range(int(np.prod(places)))
    )


def _sizes(node: Node, sizes: Any) -> list[Any]:
    """The sizes of a result, of which only the number of examples may be unknown."""
    found = sizes_in(sizes)
    if found is None or (is_known(sizes) is False and None in found[1:]):
        raise node.refused(
            "makes a result of an unknown size. Give the model's `keras.Input` a size "
            "for every axis."
        )
    return found
