"""Windows of a convolution or pooling, as slices that every task map can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf


class Axis(NamedTuple):
    """The windows along one axis.

    Attributes:
        length: int, entries of the axis, without padding.
        size: int, entries of a window.
        stride: int, entries between the starts of two windows.
        dilation: int, entries between two entries of a window.
        before: int, padding before the first entry.
        after: int, padding behind the last entry.
    """

    length: int
    size: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def reach(self) -> int:
        """Entries from the first of a window to its last."""
        return (self.size - 1) * self.dilation + 1

    @property
    def padded(self) -> int:
        """Entries of the axis with its padding."""
        return self.before + self.length + self.after

    @property
    def number(self) -> int:
        """The number of windows; not positive if none fits."""
        return (self.padded - self.reach) // self.stride + 1

    def same(self, count: int) -> Axis:
        """The axis with the padding that so many windows need, half on each side.

        >>> axis = Axis(5, 2, stride=2).same(3)
        >>> axis.before, axis.after, axis.number
        (0, 1, 3)
        """
        missing = (count - 1) * self.stride + self.reach - self.length
        before = max(missing, 0) // 2
        return self._replace(before=before, after=max(missing, 0) - before)

    def entries(self, entry: int) -> slice:
        """One entry of all windows."""
        begin = entry * self.dilation
        return slice(begin, begin + (self.number - 1) * self.stride + 1, self.stride)


def padded(x: Any, axes: Sequence[Axis], *, value: float = 0.0) -> Any:
    """`x` `[examples, *lengths, channels]` with the padding of each axis."""
    if not any(axis.before or axis.after for axis in axes):
        return x
    around = [[axis.before, axis.after] for axis in axes]
    return tf.pad(x, [[0, 0], *around, [0, 0]], constant_values=value)


def entries(x: Any, axis: Axis, position: int) -> list[Any]:
    """The first entries of all windows along an axis, then the second, and so on.

    Args:
        x: padded tensor.
        axis: its windows.
        position: int, the place of the axis in the shape of `x`.

    Returns:
        For each entry of a window a tensor like `x`, with `number` entries in the axis.

    >>> [e.numpy().tolist() for e in entries(tf.range(4), Axis(4, 2), 0)]
    [[0, 1, 2], [1, 2, 3]]
    """
    if axis.size == 1 and axis.stride == 1:
        return [x]
    whole = [slice(None)] * position
    return [x[(*whole, axis.entries(entry))] for entry in range(axis.size)]


def windows(x: Any, axes: Sequence[Axis]) -> Any:
    """All windows of a padded tensor.

    Args:
        x: tensor `[examples, *padded, channels]`.
        axes: the windows of each axis between the first and the last.

    Returns:
        Tensor `[examples, *counts, *sizes, channels]`. Its derivatives are slices and
        sums of slices.

    >>> windows(tf.reshape(tf.range(4), [1, 4, 1]), [Axis(4, 2)]).numpy().tolist()
    [[[[0], [1]], [[1], [2]], [[2], [3]]]]
    """
    behind = len(axes) + 1
    for position in range(len(axes), 0, -1):
        x = tf.stack(entries(x, axes[position - 1], position), axis=behind)
    return x


def overlaid(parts: Any, axes: Sequence[Axis]) -> Any:
    """The transpose of `windows`: adds each entry of each window to its place.

    Args:
        parts: tensor `[examples, *counts, *sizes, channels]`.
        axes: the windows of each axis.

    Returns:
        Tensor `[examples, *padded, channels]`.

    >>> overlaid(tf.ones([1, 3, 2, 1]), [Axis(4, 2)]).numpy().ravel()
    array([1., 2., 2., 1.], dtype=float32)
    """
    behind = len(axes) + 1
    for position, axis in enumerate(axes, start=1):
        each = tf.unstack(parts, axis=behind)
        parts = tf.add_n(
            [_placed(part, axis, e, position) for e, part in enumerate(each)]
        )
    return parts


def _placed(part: Any, axis: Axis, entry: int, position: int) -> Any:
    """Zeros, with `part` where `entries` took it from."""
    where = axis.entries(entry)
    sizes: list[Any] = list(part.shape)
    if sizes[0] is None:
        sizes[0] = tf.shape(part)[0]
    sizes[position] = axis.padded
    rank = len(sizes)

    def at(value: int, other: int) -> list[int]:
        return [value if i == position else other for i in range(rank)]

    others = sum(1 << i for i in range(rank) if i != position)
    return tf.raw_ops.StridedSliceGrad(
        shape=sizes,
        begin=at(where.start, 0),
        end=at(where.stop, 0),
        strides=at(where.step, 1),
        dy=part,
        begin_mask=others,
        end_mask=others,
    )
