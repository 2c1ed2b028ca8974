"""Derivatives of convolutions, in any number of spatial dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.export.lowering.shapes import spaced
from maml_keras.export.lowering.table import lowers
from maml_keras.export.lowering.values import Node, is_known, shape_of, sizes_in
from maml_keras.export.lowering.windows import Windows

# The patches of an example have at most this many numbers, if only the convolution
# needs them.
PATCHES = 2**16


@lowers("Conv2D", "Conv3D")
def _convolution(node: Node, x: Any, kernel: Any) -> Any:
    """One product of all patches, which the kernel's gradient needs, too."""
    *places, inputs, outputs = shape_of(kernel)
    sizes = shape_of(x)
    plain = not node.text("data_format").startswith("NC") and None not in sizes[1:]
    if is_known(kernel) or is_known(x) or not plain or sizes[-1] != inputs:
        return NotImplemented
    windows = Windows.of(node, sizes[1:-1], places)
    if not node.in_loop and np.prod([*windows.outputs, *places, inputs]) > PATCHES:
        return NotImplemented
    found = tf.matmul(_patches(node, windows, x), tf.reshape(kernel, [-1, outputs]))
    return tf.reshape(found, [-1, *windows.outputs, outputs])


@lowers("Conv2DBackpropFilter", "Conv3DBackpropFilterV2")
def _kernel(node: Node, x: Any, sizes: Any, upstream: Any) -> Any:
    """One product of all patches with the upstream gradient, for each group."""
    *places, inputs, outputs = _sizes(node, sizes)
    windows = Windows.of(node, shape_of(x)[1:-1], places)
    parts = [
        tf.matmul(_patches(node, windows, part), _rows(gradient), transpose_a=True)
        for part, gradient in zip(*_groups(shape_of(x)[-1] // inputs, x, upstream))
    ]
    found = parts[0] if len(parts) == 1 else tf.concat(parts, -1)
    return tf.reshape(found, [*places, inputs, outputs])


def _patches(node: Node, windows: Windows, x: Any) -> Any:
    """A row for each window, the same tensor for a layer and for its gradient."""
    return node.once(x, windows, lambda x: _rows(windows.patches(x)))


def _rows(x: Any) -> Any:
    """All but the channels in one axis."""
    return tf.reshape(x, [-1, shape_of(x)[-1]])


def _groups(count: int, *values: Any) -> list[list[Any]]:
    """The values, cut along the channels into as many parts as there are groups."""
    if count == 1:
        return [[value] for value in values]
    sizes = [shape_of(value)[-1] // count for value in values]
    return [
        [value[..., g * size : (g + 1) * size] for g in range(count)]
        for value, size in zip(values, sizes)
    ]


@lowers("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def _input(node: Node, sizes: Any, kernel: Any, upstream: Any) -> Any:
    """A convolution of the upstream gradient with the reversed kernel."""
    *places, inputs, _ = shape_of(kernel)
    wanted = _sizes(node, sizes)
    windows = Windows.of(node, wanted[1:-1], places)
    groups = (wanted[-1] or inputs) // inputs
    parts = [
        _transposed(windows, some, gradient)
        for some, gradient in zip(*_groups(groups, kernel, upstream))
    ]
    return parts[0] if groups == 1 else tf.concat(parts, -1)


def _transposed(windows: Windows, kernel: Any, upstream: Any) -> Any:
    if len(windows.sizes) == 2 and set(windows.dilations) == {1}:
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
    """As one product, without zeros between the numbers of the upstream gradient.

    With `p = q s + r` and `k = m s + r`, `dx[p] = sum_m dy[q - m] w[m s + r]`: the
    places of one remainder `r` see a part of the kernel, and all remainders are the
    columns of one product. For a stride of 2 this is under half of the multiplications.
    """
    (*places, inputs, outputs), (s0, s1) = shape_of(kernel), windows.strides
    m0, m1 = (-(-k // s) for k, s in zip(places, windows.strides))
    filled = [[0, m0 * s0 - places[0]], [0, m1 * s1 - places[1]], [0, 0], [0, 0]]
    padded = tf.pad(kernel, filled) if np.any(filled) else kernel
    parts = tf.reshape(padded, [m0, s0, m1, s1, inputs, outputs])
    turned = tf.reshape(
        tf.transpose(parts, [0, 2, 1, 3, 4, 5]), [m0 * m1, s0 * s1 * inputs, outputs]
    )
    # Not with `transpose_b`: LiteRT makes a slower operation of that.
    columns = tf.reshape(
        tf.transpose(turned, [0, 2, 1]), [m0 * m1 * outputs, s0 * s1 * inputs]
    )
    q0, q1 = (
        max(-(-(b + n) // s), o)
        for b, n, s, o in zip(
            windows.before, windows.sizes, windows.strides, windows.outputs
        )
    )
    o0, o1 = windows.outputs
    seen = tf.pad(upstream, [[0, 0], [m0 - 1, q0 - o0], [m1 - 1, q1 - o1], [0, 0]])
    views = [
        seen[:, m0 - 1 - i : m0 - 1 - i + q0, m1 - 1 - j : m1 - 1 - j + q1]
        for i in range(m0)
        for j in range(m1)
    ]
    patches = views[0] if len(views) == 1 else tf.concat(views, -1)
    found = tf.matmul(_rows(patches), columns)
    if s0 * s1 > 1:
        apart = tf.reshape(found, [-1, q1, s0, s1 * inputs])
        found = tf.transpose(apart, [0, 2, 1, 3])
    found = tf.reshape(found, [-1, q0 * s0, q1 * s1, inputs])
    cut = [slice(b, b + n) for b, n in zip(windows.before, windows.sizes)]
    return found[(slice(None), *cut, slice(None))]


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
