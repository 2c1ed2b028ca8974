"""A function of a SavedModel, written again with forward operations only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from maml_keras.export.lowering.values import is_known, tensor
from maml_keras.export.lowering.walk import Resource, Walk


class Lowered(NamedTuple):
    """What a function returns.

    Attributes:
        outputs: tensors, in the order of the function's flat outputs.
        valid: scalar bool tensor, whether all checks of the function hold.
        assigned: by the `id` of a captured variable's handle, its new value.
        replaced: how often each operation was replaced.
    """

    outputs: list[Any]
    valid: Any
    assigned: dict[int, Any]
    replaced: dict[str, int]


def lowered(
    function: Any,
    arguments: list[Any],
    read: Callable[[Any], Any] | None = None,
) -> Lowered:
    """Writes a concrete function into the present graph.

    Operations that compute a gradient become forward operations. What is known is
    folded, what does not change in a loop is computed before the loop, and the
    function's checks become one truth value instead of errors.

    Args:
        function: a `ConcreteFunction`.
        arguments: tensors, or arrays if they are known, in the order of the function's
            flat arguments.
        read: `f(handle)` returns the value of a captured variable, a tensor or an
            array. None for the variables' present values.

    Raises:
        NotLoweredError: if an operation cannot be written; the message names the
            operation and its layer.
    """
    definition = function.graph.as_graph_def()
    walk = Walk({f.signature.name: f for f in definition.library.function})
    captures = list(function.graph.captures)
    given: dict[str, Any] = {}
    handles: dict[int, int] = {}
    for handle, inner in captures:
        if handle.dtype != tf.resource:
            given[inner.op.name] = handle.numpy()
            continue
        value = (read or present_value)(handle) if _is_variable(handle) else None
        resource = Resource(value)
        given[inner.op.name] = resource
        handles[id(resource)] = id(handle)
    own = function.inputs[: len(function.inputs) - len(captures)]
    given |= {t.op.name: value for t, value in zip(own, arguments, strict=True)}
    wanted = [t.name for t in function.outputs]
    found = walk.outputs(definition.node, given, wanted)
    valid = tf.constant(True)
    for check in walk.checks:
        if not is_known(check) or not check:
            valid = valid & check
    return Lowered(
        [tensor(value) for value in found],
        valid,
        {handles[key]: tensor(value) for key, value in walk.assigned.items()},
        walk.replaced,
    )


def present_value(handle: Any) -> Any:
    """The value of a variable, as an array, by the variable's handle."""
    dtype = handle._handle_data.shape_and_type[0].dtype
    with tf.init_scope():
        return tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype).numpy()


def _is_variable(handle: Any) -> bool:
    described = getattr(handle, "_handle_data", None)
    return bool(described is not None and described.is_set)
