"""Windows that a kernel or a pool sees, in any number of spatial dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.export.lowering.shapes import spaced
from maml_keras.export.lowering.values import Node


@dataclass(frozen=True)
class Windows:
    """Where the windows lie, as a tuple of numbers for each spatial dimension.

    Attributes:
        sizes: of the input.
        kernel: sizes of a window.
        strides: distances of neighbouring windows.
        dilations: distances of neighbours in a window.
        outputs: numbers of windows.
        before: rows of padding before the input.
        after: rows of padding behind the input.
    """

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    outputs: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, node: Node, sizes: Any, kernel: Any) -> Windows:
        """The windows of a convolution or a pool.

        Args:
            node: with the attributes strides, padding and, if it has them, dilations.
            sizes: of the input's spatial dimensions.
            kernel: sizes of a window.

        Raises:
            NotLoweredError: if channels come first, or a size is unknown.
        """
        if node.text("data_format") in ("NCHW", "NCDHW"):
            raise node.refused(
                "has channels first. Build the model with "
                "`data_format='channels_last'`."
            )
        if None in sizes:
            raise node.refused(
                "takes inputs of an unknown size. Give the model's `keras.Input` a "
                "size for every axis."
            )
        sizes, kernel = (tuple(int(n) for n in v) for v in (sizes, kernel))
        ones = [1] * (len(sizes) + 2)
        strides = tuple((node.numbers("strides") or ones)[1:-1])
        dilations = tuple((node.numbers("dilations") or ones)[1:-1])
        explicit = node.numbers("explicit_paddings")
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
        kind = node.text("padding")
        if kind == "SAME":
            outputs = [-(-n // s) for n, s in zip(sizes, strides)]
            padded = [
                max((o - 1) * s + span - n, 0)
                for o, s, span, n in zip(outputs, strides, spans, sizes)
            ]
            before = [p // 2 for p in padded]
            after = [p - b for p, b in zip(padded, before)]
        else:
            before = explicit[2:-2:2] if explicit else [0] * len(sizes)
            after = explicit[3:-1:2] if explicit else [0] * len(sizes)
            outputs = [
                (n + b + a - span) // s + 1
                for n, b, a, span, s in zip(sizes, before, after, spans, strides)
            ]
        return cls(
            sizes, kernel, strides, dilations, *map(tuple, (outputs, before, after))
        )

    def padded(self, x: Any, value: float = 0.0) -> Any:
        """The input `[examples, ..., channels]` with its padding."""
        if not any((*self.before, *self.after)):
            return x
        paddings = [[0, 0], *zip(self.before, self.after), [0, 0]]
        return tf.pad(x, paddings, constant_values=value)

    def offsets(self) -> list[tuple[int, ...]]:
        """The places of a window, in the order of a kernel."""
        places = itertools.product(*map(range, self.kernel))
        return [tuple(i * d for i, d in zip(p, self.dilations)) for p in places]

    def views(self, x: Any, value: float = 0.0) -> Iterator[Any]:
        """For each place of a window, what all windows see there.

        Yields tensors `[examples, *outputs, channels]`.
        """
        x = self.padded(x, value)
        for offset in self.offsets():
            spatial = [
                slice(start, start + (o - 1) * s + 1, s)
                for start, o, s in zip(offset, self.outputs, self.strides)
            ]
            yield x[(slice(None), *spatial, slice(None))]

    def scattered(self, parts: Iterator[Any]) -> Any:
        """The sum of what the windows put to their places, without the padding.

        The transpose of `views`.

        Args:
            parts: for each place of a window a tensor
                `[examples, *outputs, channels]`.
        """
        lengths = [n + b + a for n, b, a in zip(self.sizes, self.before, self.after)]
        total: Any = None
        for offset, part in zip(self.offsets(), parts):
            spread = spaced(part, dict(enumerate(self.strides, start=1)))
            behind = [
                length - start - (o - 1) * s - 1
                for length, start, o, s in zip(
                    lengths, offset, self.outputs, self.strides
                )
            ]
            placed = tf.pad(spread, [[0, 0], *zip(offset, behind), [0, 0]])
            total = placed if total is None else total + placed
        spatial = [slice(b, b + n) for b, n in zip(self.before, self.sizes)]
        return total[(slice(None), *spatial, slice(None))]

    def counts(self) -> Any:
        """The number of inputs in each window, without padding, `[*outputs]`."""
        total = np.zeros(self.outputs, np.float32)
        for offset in self.offsets():
            inside = np.ones([], bool)
            for start, o, s, b, n in zip(
                offset, self.outputs, self.strides, self.before, self.sizes
            ):
                places = np.arange(o) * s + start - b
                inside = np.multiply.outer(inside, (places >= 0) & (places < n))
            total += inside
        return total
