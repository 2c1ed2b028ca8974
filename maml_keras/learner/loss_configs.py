"""Losses as plain data, with every argument of their constructor."""

from __future__ import annotations

import inspect
from typing import Any

import keras


def loss_config(identifier: Any) -> Any:
    """A loss as plain data, from which `keras.saving` rebuilds the same loss.

    Some losses leave arguments out of their `get_config`. In Keras 3.15 these are
    `delta` of `Huber` and `axis` of `CosineSimilarity`; a class of your own may do the
    same. A saved model would be loaded with their defaults. This function writes down
    each argument that the loss keeps, as an attribute of its name or for its function.

    Args:
        identifier: a loss, its name, a function, or a dict or list of these.

    >>> loss_config(keras.losses.Huber(delta=0.5))["config"]["delta"]
    0.5
    """
    if isinstance(identifier, dict):
        return {key: loss_config(part) for key, part in identifier.items()}
    if isinstance(identifier, (list, tuple)):
        return [loss_config(part) for part in identifier]
    described = keras.saving.serialize_keras_object(identifier)
    if isinstance(identifier, keras.losses.Loss):
        config = described["config"]
        kept = {**vars(identifier), **getattr(identifier, "_fn_kwargs", {})}
        for name in inspect.signature(type(identifier)).parameters:
            if name in kept and name not in config:
                config[name] = keras.saving.serialize_keras_object(kept[name])
    return described
