"""Bytes and scaled numbers as inputs: what would be 255 times as large as meant."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras import declared, episode

# A layer with a smaller factor is meant for bytes.
SCALES_BYTES = 0.1
# Before training nobody has scaled anything yet.
TRAINING = (
    "Divide by 255, or begin the network with a `keras.layers.Rescaling(1 / 255)`."
)


def check(model: keras.Model, task: dict[str, Any], *, hint: str = "") -> None:
    """Refuses bytes for inputs of floats, unless a layer of the model scales them.

    Args:
        model: the wrapped model.
        task: dict of `support_x` and `query_x`, of which only the types are looked at.
        hint: what to do, where there is no training yet that tells.

    Raises:
        ValueError: naming the entry, with what to do.
    """
    for name in ("support_x", "query_x"):
        check_entry(model, name, task[name], hint=hint)


def check_entry(model: keras.Model, name: str, x: Any, *, hint: str = "") -> None:
    """Refuses bytes for inputs of floats, unless a layer of the model scales them."""
    if _scales(model):
        return
    for own, leaf in declared.paired(model, x):
        images = _is_of_images(own)
        episode.check_scaled(name, leaf, own.dtype, images=images, hint=hint)


def warn_of_bytes(model: keras.Model, x: Any) -> None:
    """Images of 0..255 as floats, for a network that does not scale them."""
    images = (leaf for own, leaf in declared.paired(model, x) if _is_of_images(own))
    if not _scales(model) and any(map(looks_like_bytes, _floats(list(images)))):
        warnings.warn(
            "The inputs are images of whole numbers up to 255, as floats, and no layer "
            f"of '{model.name}' scales them. {TRAINING}",
            stacklevel=3,
        )


def warn_of_scaling_twice(model: keras.Model, x: Any) -> None:
    """Images in [0, 1] for a network that divides by 255 itself."""
    scaling = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Rescaling)
        and np.all(np.abs(layer.scale) < SCALES_BYTES)
    ]
    floats = _floats(x)
    if scaling and floats and all(np.abs(leaf).max() <= 1.0 for leaf in floats):
        warnings.warn(
            f"The inputs lie in [-1, 1], and the layer '{scaling[0].name}' scales them "
            f"by {scaling[0].scale}: images of bytes are divided by 255 when a task is "
            "drawn from a pool. Leave that layer out, or make the pool of floats: "
            '`images.astype("float32")`.',
            stacklevel=2,
        )


def _is_of_images(own: Any) -> bool:
    """True of a declared input `[None, height, width, channels]`."""
    return len(own.shape) == 4


def _floats(x: Any) -> list[Any]:
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(x)]
    return [leaf for leaf in leaves if leaf.dtype.kind == "f" and leaf.size]


def _scales(model: keras.Model) -> bool:
    """True if a layer is there that scales inputs."""
    scaling = keras.layers.Rescaling, keras.layers.Normalization
    return any(isinstance(layer, scaling) for layer in model._flatten_layers())


def looks_like_bytes(images: Any) -> bool:
    """True of floats that were bytes."""
    found = 128 <= images.max() <= 255 and images.min() >= 0
    return bool(found and not np.any(images % 1))
