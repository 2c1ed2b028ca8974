"""Inputs and targets, checked and converted to the types that an export takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.learner import episode_checks
from maml_keras.learner.losses import PureLoss


def fitting(
    saved: Any,
    x: Any,
    y: Any,
    *,
    names: tuple[str, str] = ("x", "y"),
    loss: PureLoss | None = None,
) -> tuple[Any, Any]:
    """Inputs and targets, checked and converted to the types that an export takes.

    Args:
        saved: a loaded export.
        x: inputs, `[examples, ...]`, or a nest of such arrays.
        y: targets, `[examples, ...]`, or a nest of such arrays.
        names: names of `x` and `y` for the messages.
        loss: the loss of the export, which may leave out targets of NaN; None for
            arrays without such targets.

    Raises:
        ValueError: if the arrays do not fit the export or each other.
    """
    specs = saved.fine_tune.concrete_functions[0].structured_input_signature[0]
    fitted = []
    for name, value, spec in zip(names, (x, y), specs):
        try:
            tf.nest.assert_same_structure(value, spec)
        except (TypeError, ValueError):
            if tf.nest.is_nested(spec):
                raise ValueError(
                    f"`{name}` must be arrays in this nest: {spec}. Received: "
                    f"{type(value).__name__}."
                ) from None
            value = np.asarray(value)  # A list of examples.
        if spec is specs[0]:  # Only inputs are scaled; targets may be bytes.
            for leaf, own in zip(tf.nest.flatten(value), tf.nest.flatten(spec)):
                images = own.shape.rank == 4
                episode_checks.check_scaled(name, leaf, own.dtype, images=images)
        fitted.append(
            tf.nest.map_structure(lambda s, v, n=name: _array(n, v, s), spec, value)
        )
    counted = fitted[1] if loss is None else loss.counted(fitted[1])
    for name, value in zip(names, (fitted[0], counted)):
        for leaf in map(np.asarray, tf.nest.flatten(value)):
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                raise ValueError(
                    f"Array `{name}` must be finite. Received: NaN or inf."
                )
    counts = [len(tf.nest.flatten(value)[0]) for value in fitted]
    if counts[0] != counts[1]:
        raise ValueError(
            f"Arrays {names[0]} and {names[1]} must hold as many examples as each "
            f"other. Received: {counts[0]} and {counts[1]}."
        )
    return fitted[0], fitted[1]


def _array(name: str, value: Any, spec: Any) -> Any:
    array = np.asarray(value)
    if spec.shape.rank == 2 and spec.shape[1] == 1 and array.ndim == 1:
        array = array[:, None]  # The last axis may be left out, as in Keras.
    if array.ndim == 0 or not spec.shape.is_compatible_with(array.shape):
        raise ValueError(
            f"Array `{name}` must have shape {spec.shape}, with any number of examples "
            f"for None. Received: {array.shape}.{_how_to_fit(array, spec)}"
        )
    if len(array) == 0:
        raise ValueError(f"Array `{name}` must hold an example. Received: none.")
    if array.dtype.kind not in "biuf":
        hint = (
            f" {episode_checks.NUMBER}"
            if spec.dtype.is_integer and array.dtype.kind in "US"
            else ""
        )
        raise ValueError(
            f"Array `{name}` must be numeric. Received: {array.dtype}.{hint}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = array.astype(spec.dtype.as_numpy_dtype)
    if fitted.dtype.kind in "iu" and not np.array_equal(fitted, array):
        raise ValueError(
            f"Array `{name}` must hold integers that fit {spec.dtype.name}. Received: "
            f"values from {array.min()} to {array.max()}, dtype {array.dtype}."
        )
    return fitted


def _how_to_fit(array: Any, spec: Any) -> str:
    """The remedy for an array of another shape, or an empty text."""
    shape = spec.shape.as_list()
    if spec.dtype.is_integer and len(shape) == 1 and array.ndim == 2:
        return " Turn one-hot rows into class numbers: `y.argmax(-1)`."
    if len(shape) == 4 and array.ndim == 3 and shape[3] == 1:
        return " Give grey images a last axis: `x[..., None]`."
    if len(shape) == 4 and array.ndim == 4 and array.shape[3] == shape[3]:
        return (
            f" Resize images: `tf.image.resize(x, {(shape[1], shape[2])}, "
            "antialias=True)`. Images in a folder are resized automatically."
        )
    return ""
