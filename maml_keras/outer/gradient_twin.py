"""A copy of a MAML that computes in the float type of a check."""

from __future__ import annotations

import copy
import re
from typing import Any

import keras
import tensorflow as tf

from maml_keras.learner.model_copies import retyped, twin_of
from maml_keras.outer.derivative_checks import place
from maml_keras.outer.maml import MAML

# What TensorFlow and Keras raise if an operation has no kernel of a type.
KERNEL_ERRORS = (tf.errors.OpError, TypeError, ValueError)


def twin(maml: MAML, dtype: str) -> MAML:
    """A copy of `maml` with the same weights in another float type.

    Args:
        maml: the model; it does not change.
        dtype: such as `"float64"`.
    """
    # The rule's learned variables are differentiated too, so they need the type. The
    # rest of the inner loop is copied without its configuration, because it may hold
    # functions, which a configuration cannot hold.
    rule = keras.saving.serialize_keras_object(maml.rule)
    inner = copy.copy(maml.inner)
    inner.rule = keras.saving.deserialize_keras_object(retyped(rule, dtype))
    if inner.start_from.learned is not None:
        start = keras.saving.serialize_keras_object(inner.start_from)
        inner.start_from = keras.saving.deserialize_keras_object(start)
    other = MAML(
        twin_of(maml.model, dtype),
        inner,
        meta_gradient=maml.meta_gradient,
        task_map=maml.task_map,
        batch_norm=maml.learner.batch_norm.fresh(),
        seed=0,
    )
    for part in ("rule", "batch_norm", "start"):
        ours, theirs = getattr(other, part), getattr(maml, part)
        for variable, value in zip(
            getattr(ours, "variables", []), getattr(theirs, "variables", [])
        ):
            variable.assign(tf.cast(value.value, variable.dtype))
    other.episodes_seen.assign(maml.episodes_seen.value)
    other.meta_steps.assign(maml.meta_steps.value)
    other._outer_loss = maml._outer_loss
    return other


def missing_kernel(model: keras.Model, dtype: str, error: Exception) -> str | None:
    """A sentence if TensorFlow has no kernel of `dtype`, or None for another error.

    Args:
        model: the model, whose layer the sentence names.
        dtype: the type of the check.
        error: what the twin raised.
    """
    text = str(error)
    kernel = re.search(r"No OpKernel was registered to support Op '(\w+)'", text)
    device = re.search(r"Could not find device for node: .*? = (\w+)\[", text)
    found = kernel or device
    if found is not None:
        node = re.search(r"\{\{node ([^}]+)\}\}", text)
        where = place(model, node.group(1) if node else "", losses=[])
        why = (
            f"TensorFlow has no {dtype} kernel of the operation {found.group(1)}, "
            f"which {where} needs"
        )
    elif f"DataType {dtype} not in list of allowed values" in text:
        why = f"TensorFlow has no {dtype} kernel that {_called(model, text)} needs"
    elif re.search(r"has type \w+ that does not match type \w+ of argument", text):
        why = f"{_called(model, text)} makes tensors of another float type"
    else:
        return None
    return (
        f"The meta-gradient cannot be checked in {dtype}: {why}. Check with "
        "`dtype='float32'`, which is coarser."
    )


def _called(model: keras.Model, text: str) -> str:
    """The layer that Keras names, by its class, in an error from its `call`."""
    calls = re.findall(r"calling (\w+)\.call", text)
    for layer in model._flatten_layers():
        if calls and type(layer).__name__ == calls[-1]:
            return f"layer '{layer.name}' ({type(layer).__name__})"
    return "the model or its loss"


def coarser(model: keras.Model, graph: tf.Graph, dtype: str) -> list[str]:
    """The layers, or the loss, that compute in a narrower float type than the check.

    Args:
        model: the model, whose layers are named.
        graph: a graph of a meta-gradient.
        dtype: the type of the check.
    """
    found: dict[str, None] = {}
    for operation in _operations(graph):
        narrow = any(
            t.dtype.is_floating and t.dtype.size < tf.as_dtype(dtype).size
            for t in operation.outputs
        )
        where = place(model, operation.name, losses=[])
        # Outside of both only this library computes.
        if narrow and where.startswith(("layer", "the loss")):
            found[where] = None
    return sorted(found)


def _operations(graph: Any) -> list[Any]:
    """A graph's operations, those of the functions that it calls included."""
    graphs, known = [graph], {graph}
    for inside in graphs:
        for operation in inside.get_operations():
            for attribute in operation.node_def.attr.values():
                name = attribute.func.name
                function = graph._get_function(name) if name else None
                called = getattr(function, "graph", None)
                if called is not None and called not in known:
                    known.add(called)
                    graphs.append(called)
    return [operation for inside in graphs for operation in inside.get_operations()]
