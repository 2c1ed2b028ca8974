"""Derivatives that TensorFlow lacks, computed by TensorFlow's own operations.

Most gradients are linear in the upstream gradient. The derivative of a linear map is
its transpose, and the transpose of a gradient is the forward operation.

This works for operations without a registered gradient. It does not work for operations
that TensorFlow marks as not differentiable, because a tape does not keep their inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# The derivatives by the name of their operation. Each function takes the operation and
# the gradients of its outputs, and returns the gradients of its inputs.
SUPPLIED: dict[str, Callable[..., list[Any]]] = {}


def _supplies(*operations: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        SUPPLIED.update(dict.fromkeys(operations, function))
        return function

    return register


@_supplies("SoftsignGrad")
def _softsign(op: Any, upstream: Any) -> list[Any]:
    """`gradients / (1 + |features|)^2`."""
    gradients, features = op.inputs
    width = 1 + tf.abs(features)
    slope = upstream / (width * width)
    return [slope, -2 * tf.sign(features) * gradients * slope / width]


@_supplies("CropAndResizeGradImage")
def _crop(op: Any, upstream: Any) -> list[Any]:
    """The transpose of the crops of an image."""
    gradients, boxes, indices, _ = op.inputs
    size = tf.shape(gradients)[1:3]
    method = op.get_attr("method")
    crops = tf.raw_ops.CropAndResize(
        image=upstream, boxes=boxes, box_ind=indices, crop_size=size, method=method
    )
    moved = tf.raw_ops.CropAndResizeGradBoxes(
        grads=gradients, image=upstream, boxes=boxes, box_ind=indices
    )
    return [crops, moved, None, None]


@_supplies("MaxPoolGradWithArgmax")
def _pool(op: Any, upstream: Any) -> list[Any]:
    """The upstream gradient at the largest input of each pool."""
    x, gradients, largest = op.inputs
    # Indices count within an example, or within the batch.
    examples = 1 if op.get_attr("include_batch_in_index") else tf.shape(x)[0]
    taken = tf.gather(
        tf.reshape(upstream, [examples, -1]),
        tf.reshape(largest, [examples, -1]),
        batch_dims=1,
    )
    return [None, tf.reshape(taken, tf.shape(gradients)), None]


@_supplies("SparseSegmentMeanGrad", "SparseSegmentSqrtNGrad", "SparseSegmentSumGrad")
def _segments(op: Any, upstream: Any) -> list[Any]:
    """The transpose of sums or means of rows."""
    gradients, indices, segments, _ = op.inputs
    forward = getattr(tf.raw_ops, op.type.removesuffix("Grad") + "WithNumSegments")
    sums = forward(
        data=upstream,
        indices=indices,
        segment_ids=segments,
        num_segments=tf.shape(gradients)[0],
    )
    return [sums, None, None, None]
