"""Checks that a model can be meta-learned."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import tensorflow as tf

TABLES = (
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)


def check(model: Any) -> None:
    """Refuses a model that cannot be run as a pure function of its weights.

    Args:
        model: the model to check.

    Raises:
        RuntimeError: if Keras does not run on TensorFlow.
        TypeError: if `model` is not a `keras.Model`.
        ValueError: if the model is not built, has no trainable variables, holds a raw
            `tf.Variable`, or has low-rank adapters of Keras's own.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Keras must run on TensorFlow. Received: the backend "
            f"'{keras.backend.backend()}'. Set KERAS_BACKEND=tensorflow before the "
            "first import of Keras."
        )
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a `keras.Model` of Keras 3. Received: "
            f"model={model!r} of type {type(model).__module__}.{type(model).__name__}."
        )
    check_no_tables(model)
    unbuilt = [layer.name for layer in model._flatten_layers() if not layer.built]
    if unbuilt:
        raise ValueError(
            f"`model` must be built. Model '{model.name}' has unbuilt layers: "
            f"{', '.join(unbuilt)}. Call the model once on a batch of data, or give it "
            "a `keras.Input`, before you wrap it."
        )
    if not model.trainable_variables:
        raise ValueError(
            f"`model` must have trainable variables. Model '{model.name}' has none. "
            "Set `trainable = True` on the layers that should be meta-learned."
        )
    counting = [
        layer.name
        for layer in model._flatten_layers()
        if layer._metrics and not isinstance(layer, keras.Model)
    ]
    if counting:
        warnings.warn(
            f"Layers of '{model.name}' keep metrics, which stay at zero: "
            f"{', '.join(counting)}. A pass over a task does not change the model. "
            "Pass metrics to `compile`.",
            stacklevel=4,
        )
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.TFSMLayer) and layer.trainable_weights:
            raise ValueError(
                f"Layer '{layer.name}' (TFSMLayer) computes with the weights inside of "
                "its SavedModel, which the inner loop cannot exchange, so it would "
                "not adapt. Rebuild it from Keras layers, or freeze it with "
                "`trainable = False`."
            )
        if getattr(layer, "lora_enabled", False) and layer.trainable_weights:
            raise ValueError(
                f"Layer '{layer.name}' ({type(layer).__name__}) has Keras's own "
                "low-rank adapters. Keras adds them to the kernel when it saves, and "
                "both matrices are zero after loading, so a loaded or resumed model "
                "could not adapt. Wrap a model on which `enable_lora` was not called: "
                "`mk.with_low_rank_adapters(model, rank=4)` gives it adapters that "
                "can be saved."
            )
    for layer in model._flatten_layers():
        for name, value in vars(layer).items():
            if not name.startswith("_") and _holds_raw_variable(value):
                raise ValueError(
                    f"`model` must keep its state in Keras variables. Layer "
                    f"'{layer.name}' holds a raw tf.Variable in attribute '{name}', "
                    "which cannot be adapted. Create it with `self.add_weight(...)`."
                )


def _holds_raw_variable(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    leaves = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(leaf, tf.Variable) for leaf in leaves)


def check_no_tables(model: keras.Model) -> None:
    """Refuses layers with a vocabulary, which copies and exports would lose.

    Raises:
        ValueError: with the name of the layer and the way out.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, TABLES):
            raise ValueError(
                f"Layer '{layer.name}' ({type(layer).__name__}) keeps its vocabulary "
                "in a table, which is not a weight, so copies and exports would lose "
                "it. Apply the layer to the data before: `x = layer(x)`, and let the "
                "model begin with the numbers."
            )
