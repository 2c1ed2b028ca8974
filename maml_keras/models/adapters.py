"""Low-rank adapters: few weights that adapt a large frozen network (LoRA)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras

from maml_keras.learner.model_copies import check_no_tables, settle
from maml_keras.models.low_rank import LowRank, check_rank, is_adaptable
from maml_keras.models.low_rank_attention import LowRankAttention, projections


def with_low_rank_adapters(
    model: keras.Model,
    rank: int = 4,
    *,
    alpha: float | None = None,
    layers: Callable[[keras.layers.Layer], bool] | None = None,
) -> keras.Model:
    """A frozen copy of a network with a low-rank adapter around its dense layers.

    Only the adapters are trainable; the copy predicts what `model` does. Make the head
    of a new kind of task trainable yourself, if there is one:
    `adapted.layers[-1].layer.trainable = True`, the layer inside of its adapter.

    Args:
        model: a built Sequential or functional model. It is not changed.
        rank: int, positive.
        alpha: float, scale of the change; None for the rank, a scale of one.
        layers: predicate, which `Dense` and `EinsumDense` layers get one; None for all.
            Those inside `MultiHeadAttention` are asked for as well, by the names
            `query`, `key`, `value` and `attention_output`.

    Returns:
        A `keras.Model` with the same inputs and outputs.

    Raises:
        TypeError: if `model` is no model, or `layers` cannot be called.
        ValueError: if the model is not built or has adapters, Keras cannot clone it, no
            layer fits, or `rank` is not positive.

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
            "layer by layer. Give it as a Sequential or functional model, or use "
            f"`LowRank` layers in your own class. ({error})"
        ) from error
    if not wrapped:
        raise ValueError(
            f"Model '{model.name}' must have a Dense or EinsumDense layer to adapt "
            "that `layers` accepts. None was found"
            + (f" among {', '.join(asked)}." if asked else ".")
            + (f" {_unreached(unreached)}" if unreached else "")
        )
    if unreached:
        warnings.warn(_unreached(unreached), stacklevel=2)
    _take_weights(adapted, model)
    settle(adapted)
    return adapted


def _check(model: Any, rank: Any, layers: Any) -> None:
    """Refuses what no copy can be made of."""
    check_rank(rank)
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model. Received: {type(model).__name__}."
        )
    if layers is not None and not callable(layers):
        raise TypeError(
            "`layers` must be a function of a layer that returns a bool, such as "
            f"`lambda layer: layer.name in names`. Received: layers={layers!r}."
        )
    if not model.built:
        raise ValueError(
            f"`model` must be built. Model '{model.name}' is not: call it once on a "
            "batch of data, or give it a `keras.Input`."
        )
    adapters = LowRank, LowRankAttention
    having = [x.name for x in model._flatten_layers() if isinstance(x, adapters)]
    if having:
        raise ValueError(
            f"`model` must have no adapters yet. Model '{model.name}' has: "
            f"{', '.join(having)}. Begin with the network that they were made for."
        )


def _inside(layer: Any) -> list[keras.layers.Layer]:
    """The layers of a layer; an operation, which is a node of a graph too, has none."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    return list(layer._flatten_layers(include_self=False))


def _unreached(names: list[str]) -> str:
    return (
        f"What lies inside of {', '.join(names)} is copied without adapters: only "
        "layers of the model itself and of models in it are wrapped. Use `LowRank` "
        "layers in that class, or say by `layers` which layers are meant."
    )


def _take_weights(adapted: keras.Model, model: keras.Model) -> None:
    """The frozen variables of the copy in the order of the original's."""
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
