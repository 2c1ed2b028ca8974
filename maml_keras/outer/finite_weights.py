"""Refuses to write weights that are NaN or infinite to a file."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from maml_keras.learner.moving_statistics import momenta


def check_writable(model: keras.Model, what: str) -> None:
    """Refuses a model with weights or optimizer variables that are not finite.

    A variable that training does not change may be infinite, as a mask of `-inf` is.

    Args:
        model: any `keras.Model`.
        what: str, the file or folder to write, for the message.

    Raises:
        ValueError: with the first variable that is not finite.

    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, name="head")])
    >>> check_writable(model, "A backup")
    >>> model.layers[0].bias.assign([np.nan])  # doctest: +ELLIPSIS
    <...>
    >>> check_writable(model, "A backup")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: A backup must hold finite numbers only. Received: 1 of 1 values of \
'...head/bias' are NaN or infinite. ...
    """
    bad = first_not_finite(model)
    if bad is None:
        return
    value = _floats(bad)
    count = int(value.size - np.isfinite(value).sum())
    raise ValueError(
        f"{what} must hold finite numbers only. Received: {count} of {value.size} "
        f"values of '{bad.path}' are NaN or infinite. Nothing was written, and earlier "
        "files are unchanged. Resume from the last backup with a smaller outer "
        "learning rate or with `clipnorm`."
    )


def first_not_finite(model: keras.Model) -> Any:
    """The first variable of a model or its optimizer that is damaged, or None.

    NaN is a damage anywhere. An infinite value is one in a variable that training
    changes: a trainable weight, a variable of the optimizer, a moving statistic of
    batch norm, or any other variable that a pass of this learner assigned. Other
    variables hold what the user put there.

    Args:
        model: any `keras.Model`.
    """
    optimizer = getattr(model, "optimizer", None)
    changed = [*model.trainable_weights, *(getattr(optimizer, "variables", None) or [])]
    learner = getattr(model, "learner", None)
    if learner is not None:
        changed += learner.assigned_variables
    ids = {id(v) for v in changed} | momenta(model).keys()
    for variable in [*model.weights, *changed]:
        value = _floats(variable)
        damaged = ~np.isfinite(value) if id(variable) in ids else np.isnan(value)
        if damaged.any():
            return variable
    return None


def _floats(variable: Any) -> Any:
    """The values of a variable in float64; empty if they are no floats."""
    # NumPy does not count `bfloat16` among its floats, so ask Keras.
    if not keras.backend.is_float_dtype(variable.dtype):
        return np.empty([0])
    return keras.ops.convert_to_numpy(variable).astype("float64")
