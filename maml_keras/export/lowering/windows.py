"""Windows that a kernel or a pool sees, in any number of spatial dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.export.lowering.shapes import spaced
from maml_keras.export.lowering.values import Node, shape_of


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

    def offsets(self) -> list[tuple[int, ...]]:
        """The places of a window, in the order of a kernel."""
        places = itertools.product(*map(range, self.kernel))
        return [tuple(i * d for i, d in zip(p, self.dilations)) for p in places]

    def views(self, x: Any, value: float = 0.0) -> Iterator[Any]:
        """For each place of a window, what all windows see there.

        Yields tensors `[examples, *outputs, channels]`.
        """
        rows = self._by_phases(x, value)
        lengths = shape_of(rows)[1:]
        for offset in self.offsets():
            cut, first = [slice(None)], 0
            for i, (start, stride) in enumerate(zip(offset, self.strides)):
                begin = first + start // stride
                cut.append(slice(begin, begin + self.outputs[i]))
                first = start % stride * (lengths[i + 1] // stride)
            channels = slice(first, first + lengths[-1] // self.strides[-1])
            yield rows[(*cut, channels)]

    def _by_phases(self, x: Any, value: float) -> Any:
        """The padded input, in whose rows every `stride`-th place are neighbours.

        An axis of size `places * stride` gives its `stride` to the next axis, which is
        a reshape: `[examples, a, 2 * b, 2 * channels]` for images `[2 a, 2 b]` and a
        stride of 2. So windows are slices of whole rows, where runtimes would copy the
        numbers of a strided slice one by one.
        """
        sizes = [n + b + a for n, b, a in zip(self.sizes, self.before, self.after)]
        more = [-n % s for n, s in zip(sizes, self.strides)]
        behind = [a + m for a, m in zip(self.after, more)]
        if any((*self.before, *behind)):
            paddings = [[0, 0], *zip(self.before, behind), [0, 0]]
            x = tf.pad(x, paddings, constant_values=value)
        if set(self.strides) == {1}:
            return x
        counts = [(n + m) // s for n, m, s in zip(sizes, more, self.strides)]
        ahead = zip([1, *self.strides], [*counts, shape_of(x)[-1]])
        return tf.reshape(x, [-1, *(s * n for s, n in ahead)])

    def patches(self, x: Any) -> Any:
        """What each window sees, `[examples, *outputs, places * channels]`."""
        seen = list(self.views(x))
        return seen[0] if len(seen) == 1 else tf.concat(seen, -1)

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
