"""Finds how many words each input of a model may have."""

from __future__ import annotations

import itertools
from typing import Any

import keras


def vocabularies(model: keras.Model) -> dict[int, keras.layers.Embedding]:
    """The embedding that looks up an input of the model, by the `id` of the input.

    If several embeddings look up one input, the embedding with the smallest vocabulary
    counts. Inputs of a subclassed model, and inputs that another layer changes first,
    are left out.

    Args:
        model: any `keras.Model`.

    >>> words = keras.Input([4], dtype="int32")
    >>> model = keras.Model(words, keras.layers.Embedding(50, 8)(words))
    >>> vocabularies(model)[id(model.inputs[0])].input_dim
    50
    """
    graph = getattr(model, "_functional", None) or model  # A Sequential's own.
    found: dict[int, keras.layers.Embedding] = {}
    own = {id(tensor): tensor for tensor in getattr(model, "inputs", None) or []}
    for node in itertools.chain(*getattr(graph, "_nodes_by_depth", {}).values()):
        operation = node.operation
        for index, tensor in enumerate(node.input_tensors):
            if id(tensor) not in own:
                continue
            layer = _lookup(operation, index)
            if layer is None:
                continue
            before = found.get(id(tensor))
            if before is None or layer.input_dim < before.input_dim:
                found[id(tensor)] = layer
    return found


def _lookup(operation: Any, index: int) -> keras.layers.Embedding | None:
    """The embedding that looks up this input of a layer or of a nested model."""
    if isinstance(operation, keras.layers.Embedding):
        return operation
    if isinstance(operation, keras.Model):
        inputs = getattr(operation, "inputs", None) or []
        if index < len(inputs):
            return vocabularies(operation).get(id(inputs[index]))
    return None
