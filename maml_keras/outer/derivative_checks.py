"""Names the layer or loss that needs a derivative which TensorFlow lacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import keras
import tensorflow as tf

from maml_keras.backend.batch_norm import renormalises
from maml_keras.backend.missing_derivatives import (
    MissingDerivativeError,
    no_derivative_missing,
)
from maml_keras.learner.losses import SCOPE

T = TypeVar("T")


def with_every_derivative(
    run: Callable[[], T],
    model: keras.Model,
    *,
    losses: Iterable[str],
    second_order: bool,
) -> T:
    """The result of `run()`, which takes gradients of the model.

    Args:
        run: a function without arguments.
        model: the model whose layers an error names.
        losses: names of the losses, for an error outside of the layers.
        second_order: bool, whether the gradient goes through other gradients.

    Raises:
        MissingDerivativeError: a `ValueError` that names the layer or the loss, the
            operation without a derivative and what to do.
    """

    for layer in model._flatten_layers() if second_order else []:
        if isinstance(layer, keras.layers.BatchNormalization) and renormalises(layer):
            raise MissingDerivativeError(
                f"Layer '{layer.name}' (BatchNormalization) has `renorm=True`. Batch "
                "renormalisation takes its corrections for constants, so its gradient "
                "is by design not the derivative of what it computes, and has no "
                "derivative of its own. Use `renorm=False`, or "
                "`meta_gradient=FirstOrder()`."
            )

    def name(scope: str) -> str:
        return place(model, scope, losses=losses)

    try:
        with no_derivative_missing(name):
            return run()
    except MissingDerivativeError:
        if not tf.executing_eagerly():
            raise
        # Operations have names in a graph alone.
        with no_derivative_missing(name):
            tf.function(run, autograph=False).get_concrete_function()
        raise


def place(model: keras.Model, scope: str, *, losses: Iterable[str]) -> str:
    """What of a model contains an operation.

    Keras opens a name scope for each layer; a graph numbers scopes that it has seen.

    Args:
        model: the model.
        scope: the operation's name scope, or its name, such as
            `"gradient_tape/sequential_1/lrn/LRNGrad"`.
        losses: names of the losses.

    Returns:
        The innermost layer's name and class, or the loss, or the model.

    >>> model = keras.Sequential([keras.Input([2]), keras.layers.ReLU(name="act")])
    >>> place(model, "gradient_tape/sequential_1/act_1/ReluGrad", losses=["mse"])
    "layer 'act' (ReLU)"
    """
    layers: dict[str, Any] = {layer.name: layer for layer in model._flatten_layers()}
    del layers[model.name]
    for part in reversed(scope.split("/")):
        for candidate in (part, re.sub(r"_\d+$", "", part)):
            if candidate in layers:
                return f"layer '{candidate}' ({type(layers[candidate]).__name__})"
            if candidate == SCOPE:
                names = " or ".join(f"'{loss}'" for loss in losses)
                return f"the loss {names}".strip()
    return f"model '{model.name}' outside of its layers"
