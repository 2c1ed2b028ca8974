"""Checks that a model's predictions do not depend on the padding of series."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from maml_keras.data.pool import Pool

# Relative to the largest prediction: room for float32 sums in another order.
TOLERANCE = 1e-4
# Layers before or at which a mask begins.
MASKING = (keras.layers.Embedding, keras.layers.InputLayer, keras.layers.Masking)


def check_padding(
    model: Any, pool: Pool, *, padding: float = 0, more: int = 8, examples: int = 16
) -> None:
    """Refuses a model whose predictions change when series are padded further.

    Recurrent layers, attention and global average pooling leave masked steps out.
    Convolutions, maximum pooling and `Flatten` do not: their outputs near the end of a
    series depend on what is behind it.

    Args:
        model: a `keras.Model` of inputs `[examples, None, channels]`, or `[examples,
            None]` for tokens.
        pool: a pool from `from_series`.
        padding: the `padding` of `from_series`.
        more: int, the number of further steps of padding.
        examples: int, the number of series to try.

    Raises:
        ValueError: if a prediction changes, or the model takes one length only.

    >>> from maml_keras.data import from_series
    >>> pool = from_series([[1.0, 2.0], [3.0]], [0, 1])
    >>> layers = [keras.layers.Masking(0.0), keras.layers.LSTM(4)]
    >>> check_padding(keras.Sequential([keras.Input([None, 1]), *layers]), pool)
    """
    # The shortest and the longest are among evenly spread rows of any order.
    rows = np.unique(np.linspace(0, pool.num_examples - 1, examples).astype(int))
    x = pool.examples[rows]
    wide = [(0, 0), (0, more), *[(0, 0)] * (x.ndim - 2)]
    longer = np.pad(x, wide, constant_values=padding)
    try:
        before, after = (
            np.asarray(model(part, training=False)) for part in (x, longer)
        )
    except Exception as error:  # Keras and TensorFlow raise many kinds.
        raise ValueError(
            "`model` must take series of any length to be checked. Received: "
            f"{type(error).__name__} for series of {longer.shape[1]} steps. Begin with "
            "keras.Input([None, ...]). A model with `Flatten` takes one length only, "
            "and its predictions depend on the padding."
        ) from error
    changed = np.abs(after[:, : before.shape[1]] - before).max()
    if changed > TOLERANCE * np.abs(before).max():
        deaf = [
            layer.name
            for layer in model._flatten_layers(include_self=False)
            if not isinstance(layer, MASKING) and not layer.supports_masking
        ]
        raise ValueError(
            "Predictions must not depend on the padding. Received: a change of "
            f"{changed:.2g} for {more} more steps of padding. "
            + (f"Layers that know no mask: {', '.join(deaf)}. " if deaf else "")
            + "Begin with keras.layers.Masking(padding) or Embedding(mask_zero=True), "
            "and use recurrent layers, attention or GlobalAveragePooling1D."
        )
