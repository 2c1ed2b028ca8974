"""Copies of a model: adapted copies and float64 twins."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from maml_keras.learner.model_checks import check_no_tables


def copy_of(model: keras.Model, weights: list[Any] | None = None) -> keras.Model:
    """An independent model with the same configuration and weights.

    Args:
        model: a built model that Keras can rebuild from its configuration.
        weights: None, or an array for each of `model.variables` to use instead.

    Returns:
        A built `keras.Model` of the same class.

    Raises:
        ValueError: if the model cannot be rebuilt from `get_config()`.
    """
    return _rebuilt(model, lambda config: config, weights)


@contextlib.contextmanager
def default_floats(dtype: str) -> Iterator[None]:
    """A scope in which Keras makes tensors and layers of another float type.

    Args:
        dtype: such as `"float64"`.
    """
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    try:
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def twin_of(model: keras.Model, dtype: str) -> keras.Model:
    """A copy of `model` in another float type, for checks against differences.

    Args:
        model: a built model that Keras can rebuild from its configuration.
        dtype: the float type of all layers of the copy, such as `"float64"`.

    Raises:
        ValueError: if the model cannot be rebuilt from `get_config()`.
    """
    with default_floats(dtype):
        return _rebuilt(model, lambda config: retyped(config, dtype), None)


def _rebuilt(
    model: keras.Model, change: Callable[[Any], Any], weights: list[Any] | None
) -> keras.Model:
    check_no_tables(model)
    try:
        config = change(keras.saving.serialize_keras_object(model))
        # Passing the classes spares users from registering them with Keras.
        with keras.saving.CustomObjectScope(_custom_objects(model)):
            copy = keras.saving.deserialize_keras_object(config, safe_mode=False)
    except Exception as error:
        raise ValueError(
            f"Model '{model.name}' of class {type(model).__name__} cannot be rebuilt "
            "from its configuration. Give the class a `get_config` that returns its "
            f"constructor's arguments. ({type(error).__name__}: {error})"
        ) from error
    values = weights or [np.asarray(v) for v in model.variables]
    if [tuple(v.shape) for v in copy.variables] != [tuple(np.shape(v)) for v in values]:
        raise ValueError(
            f"Model '{model.name}' was rebuilt from its configuration with other "
            f"variables: {[v.path for v in copy.variables]} instead of "
            f"{[v.path for v in model.variables]}. Create all layers in `__init__` "
            "from arguments that `get_config` returns."
        )
    for variable, value in zip(copy.variables, values):
        variable.assign(value)
    settle(copy)
    return copy


def settle(model: keras.Model) -> None:
    """Updates tensors that layers have derived from their variables.

    A `Normalization` after `adapt` keeps mean and variance in variables, but computes
    with tensors that it derived from these variables when it was built.

    Args:
        model: a model whose variables were assigned.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _custom_objects(model: keras.Model) -> dict[str, Any]:
    return {
        keras.saving.get_registered_name(type(layer)): type(layer)
        for layer in model._flatten_layers()
        if not type(layer).__module__.startswith("keras.")
    }


def retyped(config: Any, dtype: str) -> Any:
    """A copy of `config` in which each float type is `dtype`."""
    if isinstance(config, dict):
        return {
            key: _retyped(value, dtype) if key == "dtype" else retyped(value, dtype)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(retyped(item, dtype) for item in config)
    return config


def _retyped(value: Any, dtype: str) -> Any:
    name = value
    if isinstance(value, dict):  # A serialised DTypePolicy; a map has no name.
        name = value.get("config", {}).get("name", "float")
    return dtype if isinstance(name, str) and "float" in name else value
