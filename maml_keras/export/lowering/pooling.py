"""Derivatives of pools, in any number of spatial dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.export.lowering.table import lowers
from maml_keras.export.lowering.values import Node, shape_of, sizes_in
from maml_keras.export.lowering.windows import Windows


@lowers("MaxPoolGrad", "MaxPool3DGrad")
def _largest(node: Node, x: Any, y: Any, upstream: Any) -> Any:
    """The first largest number of a window gets the window's whole gradient."""
    windows = Windows.of(node, shape_of(x)[1:-1], node.numbers("ksize")[1:-1])

    def parts() -> Iterator[Any]:
        taken = None
        for view in windows.views(x, float(x.dtype.min)):
            hit = tf.cast(view >= y, y.dtype)
            first = hit if taken is None else hit * (1 - taken)
            taken = first if taken is None else taken + first
            yield upstream * first

    return windows.scattered(parts())


@lowers("AvgPoolGrad", "AvgPool3DGrad")
def _mean(node: Node, shape: Any, upstream: Any) -> Any:
    sizes = sizes_in(shape)
    if sizes is None:
        raise node.refused("pools an input of an unknown size.")
    kernel = node.numbers("ksize")[1:-1]
    windows = Windows.of(node, sizes[1:-1], kernel)
    part = upstream * (1 / windows.counts()[None, ..., None])
    return windows.scattered(part for _ in range(int(np.prod(kernel))))
