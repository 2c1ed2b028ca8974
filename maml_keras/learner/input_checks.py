"""Checks of inputs and targets against the inputs and outputs that a model declares."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.learner import episode_checks
from maml_keras.learner.losses import PureLoss

# A `Rescaling` layer with a smaller factor is meant for bytes.
SCALES_BYTES = 0.1
# The fewest columns that may be a flattened image, and the least size of a value that
# no inner step can take.
FLATTENED, UNSCALED = 64, 1000.0
# The advice before training, when no scale is fixed yet.
TRAINING = (
    "Divide by 255, or begin the network with a `keras.layers.Rescaling(1 / 255)`."
)


def check_examples_axis(model: keras.Model, x: Any) -> None:
    """Refuses one task `[examples, 1]`, which looks like tasks of one example each."""
    for declared, leaf in paired(model, x):
        shape = tuple(leaf.shape)
        if (
            len(shape) == len(declared.shape) == 2
            and shape[1] == declared.shape[1] == 1
        ):
            raise ValueError(
                "`support_x` must be [tasks, examples, 1] for this model. Received: "
                f"shape={shape}. To pass one task, make a batch of it: `x[None]`. If "
                "each row is a task, add the last axis: `x[..., None]`."
            )


def check_targets(model: keras.Model, loss: PureLoss, y: Any) -> None:
    """Refuses one target per example for several outputs: probably class numbers."""
    declared = output(model)
    if (
        declared is None
        or len(y.shape) >= len(declared.shape) + 1
        or declared.shape[-1] == 1
    ):
        return
    rest = "".join(f", {size}" for size in declared.shape[1:])
    raise ValueError(
        f"`support_y` must be [tasks, examples{rest}] for the loss '{loss.name}', like "
        f"the output of model '{model.name}'. Received: "
        f"shape={tuple(y.shape)}. For class numbers, use "
        "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)`."
    )


def check_sizes(model: keras.Model, name: str, x: Any, *, axes: int) -> None:
    """Refuses examples of another size than the model declares.

    Args:
        model: the wrapped model.
        name: str, the entry's name for the message.
        x: inputs of one task or of several tasks.
        axes: int, how many axes come before the axes of an example.

    Raises:
        ValueError: with both sizes.
    """
    for declared, leaf in paired(model, x):
        expected, found = tuple(declared.shape[1:]), tuple(leaf.shape[axes:])
        # Another number of axes is left to Keras, which may add or remove an axis.
        if len(expected) == len(found) and any(
            e not in (None, f) for e, f in zip(expected, found)
        ):
            raise ValueError(
                f"`{name}` must hold examples of shape {expected}, like the input of "
                f"model '{model.name}'. Received: {found}, in "
                f"shape={tuple(leaf.shape)}, which is "
                f"{'[tasks, examples, ...]' if axes > 1 else '[examples, ...]'}. "
                f"Reshape the examples, or build the model for shape {found}."
            )


def paired(model: keras.Model, x: Any) -> list[tuple[Any, Any]]:
    """Pairs of a declared input of the model and the part of `x` for this input.

    The list is empty for a subclassed model, which declares no inputs, and for a nest
    with another number of parts, which the model itself refuses.
    """
    inputs, leaves = list(getattr(model, "inputs", None) or []), tf.nest.flatten(x)
    if inputs and isinstance(x, dict) and not isinstance(model.input, dict):
        # Keras finds the parts by the names of the inputs, not by the order of keys.
        names = {declared.name: declared for declared in inputs}
        return [(names[key], leaf) for key, leaf in x.items() if key in names]
    return list(zip(inputs, leaves)) if len(inputs) == len(leaves) else []


def output(model: keras.Model) -> Any:
    """The single output that a model declares, with shape and dtype, or None."""
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or None in outputs[0].shape[1:]:
        return None
    nest = getattr(model, "_outputs_struct", None)
    return None if isinstance(nest, (dict, list, tuple)) else outputs[0]


def check_scale(model: keras.Model, task: dict[str, Any], *, hint: str = "") -> None:
    """Refuses bytes for inputs of floats, unless a layer of the model scales them.

    Args:
        model: the wrapped model.
        task: dict of `support_x` and `query_x`.
        hint: str, the advice before training; by default advice after training.

    Raises:
        ValueError: with the entry and the advice.
    """
    for name in ("support_x", "query_x"):
        check_scale_of(model, name, task[name], hint=hint)


def check_scale_of(model: keras.Model, name: str, x: Any, *, hint: str = "") -> None:
    """Refuses bytes for inputs of floats, unless a layer of the model scales them."""
    if _scales(model):
        return
    for declared, leaf in paired(model, x):
        images = _takes_images(declared)
        episode_checks.check_scaled(
            name, leaf, declared.dtype, images=images, hint=hint
        )


def warn_of_scale(model: keras.Model, x: Any) -> None:
    """Warns of unscaled inputs, if no layer of the network can scale them.

    Unscaled are float images of the size of bytes, and tables or series with values of
    1,000 and more, in floats or integers. An integer input is not judged, nor is a
    network that looks numbers up in a table, as words are.
    """
    if _scales(model):
        return
    for declared, leaf in paired(model, x):
        values = np.asarray(leaf)
        if values.dtype.kind not in "fiu" or not values.size:
            continue
        floats = values.dtype.kind == "f"
        if floats and _may_be_images(declared) and looks_like_bytes(values):
            warnings.warn(
                f"The inputs are float images with values up to {values.max():g}, and "
                f"no layer of '{model.name}' scales them. {TRAINING}",
                stacklevel=3,
            )
        elif _is_beyond_size_one(declared, values) and not _settles(model):
            warnings.warn(
                f"The inputs are numbers of up to {np.abs(values).max():g}, and no "
                f"layer of '{model.name}' scales them: inner steps need inputs of size "
                "one. Standardise each column by the mean and standard deviation of "
                "the training tasks, or begin the network with an adapted "
                "`keras.layers.Normalization`.",
                stacklevel=3,
            )


def warn_of_scaling_twice(model: keras.Model, x: Any) -> None:
    """Warns of inputs in [-1, 1] for a network that divides by 255 itself."""
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
            f"by {scaling[0].scale}. A pool divides images of bytes by 255 already "
            "when a task is drawn. Remove the layer, or make the pool from floats: "
            '`images.astype("float32")`.',
            stacklevel=2,
        )


def _takes_images(declared: Any) -> bool:
    """True for a declared input `[None, height, width, channels]`."""
    return len(declared.shape) == 4


def _may_be_images(declared: Any) -> bool:
    """True for images, and for rows that are long enough for flattened images."""
    flat = len(declared.shape) == 2 and (declared.shape[1] or 0) >= FLATTENED
    return _takes_images(declared) or flat


def _is_beyond_size_one(declared: Any, values: Any) -> bool:
    """True for a table or a series of floats with values of 1,000 and more."""
    floating = tf.as_dtype(declared.dtype).is_floating
    return (
        floating
        and not _takes_images(declared)
        and bool(np.abs(values).max() >= UNSCALED)
    )


def _settles(model: keras.Model) -> bool:
    """True if a layer of the model normalises, or looks numbers up as words."""
    kinds = (
        keras.layers.BatchNormalization,
        keras.layers.LayerNormalization,
        keras.layers.GroupNormalization,
        keras.layers.Embedding,
        keras.layers.Discretization,
        keras.layers.Hashing,
        keras.layers.CategoryEncoding,
        keras.layers.IntegerLookup,
    )
    return any(isinstance(layer, kinds) for layer in model._flatten_layers())


def _floats(x: Any) -> list[Any]:
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(x)]
    return [leaf for leaf in leaves if leaf.dtype.kind == "f" and leaf.size]


def _scales(model: keras.Model) -> bool:
    """True if a layer of the model scales inputs."""
    scaling = keras.layers.Rescaling, keras.layers.Normalization
    return any(isinstance(layer, scaling) for layer in model._flatten_layers())


def looks_like_bytes(images: Any) -> bool:
    """True if floats have the size of bytes: the largest is from 128 to about 255.

    Resized images have fractions, and some kinds of resizing go a little beyond the
    values of bytes at edges.

    >>> looks_like_bytes(np.array([0.0, 200.5])), looks_like_bytes(np.array([0.0, 1.0]))
    (True, False)
    """
    return bool(128 <= images.max() <= 300 and images.min() >= -45)
