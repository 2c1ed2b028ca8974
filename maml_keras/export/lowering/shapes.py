"""Operations on shapes, and the derivatives of operations that move numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.export.lowering.table import lowers
from maml_keras.export.lowering.values import (
    Node,
    is_known,
    shape_of,
    sizes_in,
    tensor,
)


@lowers("Shape")
def _shape(node: Node, x: Any) -> Any:
    return _shape_as(x, node.dtype("out_type"))


@lowers("ShapeN")
def _shapes(node: Node, *values: Any) -> list[Any]:
    return [_shape_as(x, node.dtype("out_type")) for x in values]


def _shape_as(x: Any, dtype: tf.DType) -> Any:
    sizes = shape_of(x)
    if None not in sizes:
        return np.array(sizes, dtype.as_numpy_dtype)
    return tf.shape(x, out_type=dtype)


@lowers("Size")
def _size(node: Node, x: Any) -> Any:
    dtype, sizes = node.dtype("out_type"), shape_of(x)
    if None not in sizes:
        return np.array(np.prod(sizes, dtype=np.int64), dtype.as_numpy_dtype)
    return tf.reduce_prod(tf.shape(x, out_type=dtype))


@lowers("Rank")
def _rank(node: Node, x: Any) -> Any:
    return np.array(len(shape_of(x)), np.int32)


@lowers("StridedSlice")
def _slice(node: Node, x: Any, begin: Any, end: Any, strides: Any) -> Any:
    """A part of a shape, if that part is known; else the operation itself."""
    sizes = sizes_in(x) if x.dtype in (tf.int32, tf.int64) else None
    plain = not any(node.integer(f"{m}_mask") for m in ("ellipsis", "new_axis"))
    if sizes is None or not plain or not all(map(is_known, (begin, end, strides))):
        return NotImplemented
    first, last, stride = (int(v[0]) for v in (begin, end, strides))
    if node.integer("shrink_axis_mask"):
        found: Any = sizes[first]
        known = found is not None
    else:
        start = None if node.integer("begin_mask") else first
        stop = None if node.integer("end_mask") else last
        found = sizes[start:stop:stride]
        known = None not in found
    return np.array(found, x.dtype.as_numpy_dtype) if known else NotImplemented


@lowers("GatherV2")
def _gather(node: Node, x: Any, indices: Any, axis: Any) -> Any:
    """A part of a shape, if that part is known; else the operation itself."""
    sizes = sizes_in(x) if x.dtype in (tf.int32, tf.int64) else None
    if sizes is None or not is_known(indices):
        return NotImplemented
    found = [sizes[i] for i in np.ravel(indices)]
    if None in found:
        return NotImplemented
    return np.array(found, x.dtype.as_numpy_dtype).reshape(np.shape(indices))


@lowers("Reshape")
def _reshape(node: Node, x: Any, shape: Any) -> Any:
    """With -1 for a single unknown size, which then needs no computation."""
    sizes = None if is_known(shape) else sizes_in(shape)
    if sizes is None or sizes.count(None) != 1 or 0 in sizes:
        return NotImplemented
    return tf.reshape(x, [-1 if size is None else size for size in sizes])


@lowers("ConcatOffset")
def _offsets(node: Node, axis: Any, *shapes: Any) -> list[Any]:
    """Where each part begins in a concatenation."""
    sizes = [sizes_in(shape) for shape in shapes]
    if not is_known(axis) or any(s is None or s[int(axis)] is None for s in sizes):
        raise node.refused("concatenates along an axis whose size is unknown.")
    begins, begin = [], np.zeros(len(sizes[0] or []), np.int32)
    for part in sizes:
        begins.append(begin.copy())
        begin[int(axis)] += part[int(axis)]  # type: ignore[index]
    return begins


@lowers("BroadcastGradientArgs")
def _broadcast_axes(node: Node, a: Any, b: Any) -> list[Any]:
    """The axes over which each of two broadcast values is summed.

    Two sizes that are both unknown are taken as equal: both are the number of examples.
    """
    sizes = [s for s in (sizes_in(a), sizes_in(b)) if s is not None]
    if len(sizes) < 2:
        raise node.refused("combines values of an unknown rank.")
    rank = max(map(len, sizes))
    first, second = ([1] * (rank - len(s)) + s for s in sizes)
    pairs = list(enumerate(zip(first, second)))
    return [
        np.array([i for i, (m, n) in pairs if m == 1], np.int32),
        np.array([i for i, (m, n) in pairs if n == 1], np.int32),
    ]


@lowers("DynamicStitch", "ParallelDynamicStitch")
def _stitch(node: Node, *inputs: Any) -> Any:
    half = len(inputs) // 2
    places: dict[int, Any] = {}
    for indices, data in zip(inputs[:half], inputs[half:]):
        if not is_known(indices):
            raise node.refused("takes indices that are known only at run time.")
        if np.ndim(indices) == 0:
            places[int(indices)] = data
            continue
        for row, index in enumerate(np.ravel(indices)):
            flat = tf.reshape(data, [-1, *shape_of(data)[np.ndim(indices) :]])
            places[int(index)] = (
                np.reshape(data, [-1, *np.shape(data)[np.ndim(indices) :]])[row]
                if is_known(data)
                else flat[row]
            )
    rows = [places[i] for i in range(len(places))]
    if all(map(is_known, rows)):
        return np.stack(rows)
    return tf.stack([tensor(row) for row in rows])


@lowers("StridedSliceGrad")
def _slice_gradient(
    node: Node, shape: Any, begin: Any, end: Any, strides: Any, upstream: Any
) -> Any:
    sizes = sizes_in(shape)
    if sizes is None or not all(map(is_known, (begin, end, strides))):
        raise node.refused("slices in a way that is known only at run time.")
    masks = ("begin", "end", "shrink_axis", "ellipsis", "new_axis")
    flags = [
        {name: bool(node.integer(f"{name}_mask") >> i & 1) for name in masks}
        for i in range(len(begin))
    ]
    named = sum(not (f["ellipsis"] or f["new_axis"]) for f in flags)
    paddings: list[list[int]] = []
    steps: dict[int, int] = {}
    shrunk, added, place = [], [], 0
    for flag, first, last, stride in zip(flags, begin, end, strides):
        if flag["ellipsis"]:
            whole = len(sizes) - named
            paddings += [[0, 0]] * whole
            place += whole
            continue
        place += 1
        if flag["new_axis"]:
            added.append(place - 1)
            continue
        axis = len(paddings)
        if flag["shrink_axis"]:
            shrunk.append(axis)
            place -= 1
            last, flag["end"] = first + 1, flag["end"] or first == -1
        start = None if flag["begin"] else int(first)
        stop = None if flag["end"] else int(last)
        size = sizes[axis]
        if stride < 0:
            raise node.refused("slices backwards.")
        if size is None:
            if (start, stop, stride) != (None, None, 1):
                raise node.refused("slices the examples, whose number is unknown.")
            paddings.append([0, 0])
            continue
        seen = range(size)[start : stop : int(stride)]
        paddings.append([seen[0], size - 1 - seen[-1]] if seen else [size, 0])
        steps[axis] = int(stride)
    if added:
        upstream = tf.squeeze(upstream, added)
    for axis in shrunk:
        upstream = tf.expand_dims(upstream, axis)
    rest = [[0, 0]] * (len(sizes) - len(paddings))
    return tf.pad(spaced(upstream, steps), paddings + rest)


def spaced(x: Any, steps: dict[int, int]) -> Any:
    """Zeros between the numbers along some axes.

    Args:
        x: tensor whose sizes along these axes are known.
        steps: by axis, the distance of two neighbours in the result.
    """
    for axis, step in steps.items():
        if step == 1:
            continue
        sizes = [-1 if size is None else size for size in shape_of(x)]
        size = sizes[axis]
        apart = tf.expand_dims(x, axis + 1)
        paddings = np.zeros([len(sizes) + 1, 2], np.int32)
        paddings[axis + 1, 1] = step - 1
        sizes[axis] = size * step
        # A single unknown size may be -1; `sizes` has no other.
        x = tf.reshape(tf.pad(apart, paddings), sizes)
        places = [slice(None)] * len(sizes)
        places[axis] = slice(0, (size - 1) * step + 1)
        x = x[tuple(places)]
    return x
