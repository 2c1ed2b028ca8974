"""Low-rank adapters: few weights that adapt a large frozen network (LoRA)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras

from maml_keras.learner.model_checks import check_no_tables
from maml_keras.learner.model_copies import settle
from maml_keras.models.low_rank import LowRank, check_rank, is_adaptable
from maml_keras.models.low_rank_attention import LowRankAttention, projections


def with_low_rank_adapters(
    model: keras.Model,
    rank: int = 4,
    *,
    alpha: float | None = None,
    layers: Callable[[keras.layers.Layer], bool] | None = None,
) -> keras.Model:
    """A frozen copy of a network with low-rank adapters around its dense layers.

    Only the adapters are trainable. At first, the copy makes the same predictions as
    `model`. If your new tasks need a new head, make the head trainable:
    `adapted.layers[-1].layer.trainable = True` (`.layer` is the layer inside the
    adapter).

    Args:
        model: a built Sequential or functional model; it stays unchanged.
        rank: int, positive.
        alpha: float, the change is scaled by `alpha / rank`; None for a scale of one.
        layers: function of a layer that returns True for the `Dense` and `EinsumDense`
            layers that get an adapter; None for all. The function is also called for
            the projections inside `MultiHeadAttention`, which have the names `query`,
            `key`, `value` and `attention_output`.

    Returns:
        A `keras.Model` with the same inputs and outputs.

    Raises:
        TypeError: if `model` is not a model, or `layers` cannot be called.
        ValueError: if the model is not built or has adapters already, if Keras cannot
            clone the model, if no layer fits, or if `rank` is not a positive integer.

    Reference: Hu et al., 2021, https://arxiv.org/abs/2106.09685

    >>> model = keras.Sequential([keras.Input([8]), keras.layers.Dense(8)])
    >>> adapted = with_low_rank_adapters(model, rank=2)
    >>> sum(v.shape[0] * v.shape[1] for v in adapted.trainable_variables)
    32
    """
    _check(model, rank, layers)
    wrapped: list[str] = []
    asked: list[str] = []
    unreached: list[str] = []

    def attention(
        layer: keras.layers.MultiHeadAttention,
    ) -> keras.layers.Layer | None:
        inside = [dense for _, dense in projections(layer)]
        asked.extend(d.name for d in inside)
        adapted = [d.name for d in inside if layers is None or layers(d)]
        if not adapted:
            return None
        wrapped.extend(adapted)
        own = {"rank": rank, "alpha": alpha, "adapted": adapted}
        return LowRankAttention.from_config({**layer.get_config(), **own})

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if type(layer) is keras.layers.MultiHeadAttention:
            with_adapters = attention(layer)
            if with_adapters is not None:
                return with_adapters
        copy = type(layer).from_config(layer.get_config())
        copy.trainable = False
        if is_adaptable(layer):
            asked.append(layer.name)
        if not is_adaptable(layer) or not (layers is None or layers(layer)):
            if type(layer) is not keras.layers.MultiHeadAttention and any(
                is_adaptable(inner) and (layers is None or layers(inner))
                for inner in _inside(layer)
            ):
                unreached.append(layer.name)
            return copy
        wrapped.append(layer.name)
        return LowRank(copy, rank, alpha=alpha)

    check_no_tables(model)
    try:
        adapted = keras.models.clone_model(model, clone_function=clone, recursive=True)
    except ValueError as error:
        raise ValueError(
            f"Model '{model.name}' of class {type(model).__name__} cannot be rebuilt "
            "layer by layer. Pass a Sequential or functional model, or use `LowRank` "
            f"layers in your own class. ({error})"
        ) from error
    if not wrapped:
        raise ValueError(
            f"Model '{model.name}' must have a Dense or EinsumDense layer to adapt "
            "that `layers` accepts. None was found"
            + (f" among {', '.join(asked)}." if asked else ".")
            + (f" {_unreached_message(unreached)}" if unreached else "")
        )
    if unreached:
        warnings.warn(_unreached_message(unreached), stacklevel=2)
    _take_weights(adapted, model)
    settle(adapted)
    return adapted


def _check(model: Any, rank: Any, layers: Any) -> None:
    """Refuses arguments from which no copy can be made."""
    check_rank(rank)
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model. Received: {type(model).__name__}. Load a "
            "file with `keras.saving.load_model` first."
        )
    if layers is not None and not callable(layers):
        raise TypeError(
            "`layers` must be a function of a layer that returns a bool, such as "
            f"`lambda layer: layer.name in names`. Received: layers={layers!r}."
        )
    if not model.built:
        raise ValueError(
            f"`model` must be built. Model '{model.name}' is not built. Call the model "
            "once on a batch of data, or give it a `keras.Input`."
        )
    adapters = LowRank, LowRankAttention
    having = [x.name for x in model._flatten_layers() if isinstance(x, adapters)]
    if having:
        raise ValueError(
            f"`model` must have no adapters yet. Model '{model.name}' has: "
            f"{', '.join(having)}. Pass the original network without adapters."
        )


def _inside(layer: Any) -> list[keras.layers.Layer]:
    """The layers inside a layer; empty for an operation, which is not a layer."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    return list(layer._flatten_layers(include_self=False))


def _unreached_message(names: list[str]) -> str:
    return (
        f"Layers inside {', '.join(names)} are copied without adapters: only layers of "
        "the model, and of models inside it, get adapters. Use `LowRank` layers in "
        "your class, or choose other layers with `layers`."
    )


def _take_weights(adapted: keras.Model, model: keras.Model) -> None:
    """Copies the original's variables into the frozen layers of the copy."""
    copies = [
        layer.layer if isinstance(layer, LowRank) else layer
        for layer in _leaves(adapted)
    ]
    for copy, original in zip(copies, _leaves(model), strict=True):
        if isinstance(copy, LowRankAttention):
            for (_, ours), (_, theirs) in zip(
                projections(copy), projections(original), strict=True
            ):
                ours.set_weights(theirs.get_weights())
        else:
            copy.set_weights(original.get_weights())


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    found: list[keras.layers.Layer] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model) and layer.layers:
            found += _leaves(layer)
        else:
            found.append(layer)
    return found
