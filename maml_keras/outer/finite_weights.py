"""Weights that are NaN or infinite are not written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def check_writable(model: keras.Model, what: str) -> None:
    """Refuses to write a model whose weights, or its optimizer's, are not finite.

    Args:
        model: any `keras.Model`.
        what: str, what would be written, for the message.

    Raises:
        ValueError: naming the first such variable. Nothing was written then.

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
        f"values of '{bad.path}' are NaN or infinite. Nothing was written: the files "
        "of before are as they were. Go on from the last backup, with a smaller outer "
        "rate or `clipnorm`."
    )


def first_not_finite(variables: Sequence[Any]) -> Any:
    """The first variable with a value that is NaN or infinite; None if there is none.

    Args:
        variables: `keras.Variable`s.
    """
    for variable in variables:
        value = keras.ops.convert_to_numpy(variable)
        # `bfloat16` is no kind of float to NumPy.
        floats = keras.backend.is_float_dtype(variable.dtype)
        if floats and not np.isfinite(value.astype("float64")).all():
            return variable
    return None


def _of_optimizer(model: keras.Model) -> list[Any]:
    optimizer = getattr(model, "optimizer", None)
    return list(getattr(optimizer, "variables", None) or [])
