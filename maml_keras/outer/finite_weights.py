"""Refuses to write weights that are NaN or infinite to a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def check_writable(model: keras.Model, what: str) -> None:
    """Refuses a model with weights or optimizer variables that are not finite.

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
    bad = first_not_finite([*model.weights, *_of_optimizer(model)])
    if bad is None:
        return
    value = np.asarray(bad)
    count = int(value.size - np.isfinite(value).sum())
    raise ValueError(
        f"{what} must hold finite numbers only. Received: {count} of {value.size} "
        f"values of '{bad.path}' are NaN or infinite. Nothing was written, and earlier "
        "files are unchanged. Resume from the last backup with a smaller outer "
        "learning rate or with `clipnorm`."
    )


def first_not_finite(variables: Sequence[Any]) -> Any:
    """The first variable with a NaN or infinite value, or None.

    Args:
        variables: `keras.Variable`s.
    """
    for variable in variables:
        value = keras.ops.convert_to_numpy(variable)
        # NumPy does not count `bfloat16` among its floats, so ask Keras.
        floats = keras.backend.is_float_dtype(variable.dtype)
        if floats and not np.isfinite(value.astype("float64")).all():
            return variable
    return None


def _of_optimizer(model: keras.Model) -> list[Any]:
    optimizer = getattr(model, "optimizer", None)
    return list(getattr(optimizer, "variables", None) or [])
