"""Values and nodes of a graph while it is written again."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops, tensor_util


class NotLoweredError(ValueError):
    """An operation has no form in other runtimes."""


class Node:
    """A node of a graph, with its attributes as plain Python values.

    Args:
        definition: a `NodeDef`.
        in_loop: bool, whether the node is in the body of a loop.
        made: what `once` has made already, shared by all nodes of a walk.
    """

    def __init__(
        self, definition: Any, *, in_loop: bool = False, made: dict[Any, Any]
    ) -> None:
        self.definition = definition
        self.in_loop = in_loop
        self._made = made
        self.name: str = definition.name
        self.operation: str = definition.op
        self._attributes = definition.attr

    def numbers(self, name: str) -> list[int]:
        """A list of integers; empty if the node does not have it."""
        return list(self._attributes[name].list.i) if name in self._attributes else []

    def integer(self, name: str) -> int:
        """An integer."""
        return int(self._attributes[name].i)

    def number(self, name: str) -> float:
        """A floating-point number."""
        return float(self._attributes[name].f)

    def flag(self, name: str) -> bool:
        """A truth value."""
        return bool(self._attributes[name].b)

    def text(self, name: str) -> str:
        """A text; empty if the node does not have it."""
        return (
            str(self._attributes[name].s.decode()) if name in self._attributes else ""
        )

    def dtype(self, name: str) -> tf.DType:
        """A type of tensors."""
        return tf.as_dtype(self._attributes[name].type)

    def function(self, name: str) -> str:
        """The name of a function in the graph's library."""
        return str(self._attributes[name].func.name)

    def once(self, x: Any, key: Any, make: Callable[[Any], Any]) -> Any:
        """`make(x)`, computed once for all nodes, in the graph of the tensor `x`."""
        place = x.ref(), key
        if place not in self._made:
            with where_known([x]):
                self._made[place] = make(x)
        return self._made[place]

    def refused(self, reason: str) -> NotLoweredError:
        """The error that names this operation and its layer."""
        return NotLoweredError(
            f"Operation {self.operation} of '{place(self.name)}' {reason}"
        )


def place(name: str) -> str:
    """The part of a node's name that tells the layer.

    >>> place("while/gradient_tape/while/conv4/conv2d_1/Conv2DBackpropFilter")
    'conv4/conv2d_1'
    """
    parts = [
        part
        for part in name.split("/")[:-1]
        if not re.fullmatch(
            r"(while|gradient_tape|StatefulPartitionedCall)(_\d+)?", part
        )
    ]
    return "/".join(parts) or name


def is_known(value: Any) -> bool:
    """True for an array that is known while the graph is written."""
    return isinstance(value, (np.ndarray, np.generic))


def tensor(value: Any) -> Any:
    """The value as a tensor of the present graph."""
    return tf.constant(value) if is_known(value) else value


def shape_of(value: Any) -> list[Any]:
    """The sizes of a value's axes, None where a size is unknown."""
    return list(value.shape) if is_known(value) else value.shape.as_list()


def sizes_in(value: Any) -> list[Any] | None:
    """What is known of a vector that holds the sizes of a shape; None for nothing."""
    if is_known(value):
        return [int(size) for size in np.ravel(value)]
    if value.shape.rank != 1:
        return None
    shape = tensor_util.constant_value_as_shape(value)
    return None if shape.rank is None else list(shape.as_list())


@contextlib.contextmanager
def where_known(inputs: list[Any]) -> Iterator[None]:
    """Writes into the outermost graph that knows the inputs.

    So what does not change in a loop is computed once, before it.
    """
    here = ops.get_default_graph()
    around = [here]
    while getattr(around[-1], "outer_graph", None) is not None:
        around.append(around[-1].outer_graph)
    graphs = {id(v.graph) for v in inputs if isinstance(v, tf.Tensor)}
    inner = next((g for g in around if id(g) in graphs), here)
    if inner is here:
        yield
    else:
        # A scope of its own: converters want names that differ from those in the loop.
        with inner.as_default(), tf.name_scope("before_loop/"):
            yield
