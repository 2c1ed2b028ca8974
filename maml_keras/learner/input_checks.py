"""Inputs and targets that do not fit what a model declares, by size and by scale."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.learner import episode_checks
from maml_keras.learner.losses import PureLoss

# A layer with a smaller factor is meant for bytes.
SCALES_BYTES = 0.1
# Before training nobody has scaled anything yet.
TRAINING = (
    "Divide by 255, or begin the network with a `keras.layers.Rescaling(1 / 255)`."
)


def check_examples_axis(model: keras.Model, x: Any) -> None:
    """Refuses one task of numbers, which looks like many tasks of one example."""
    for own, leaf in paired(model, x):
        shape = tuple(leaf.shape)
        if len(shape) == len(own.shape) == 2 and shape[1] == own.shape[1] == 1:
            raise ValueError(
                "`support_x` must be [tasks, examples, 1] for this model. Received: "
                f"shape={shape}. Of one task make a batch: `x[None]`; to tasks of one "
                "number each give the last axis: `x[..., None]`."
            )


def check_targets(model: keras.Model, loss: PureLoss, y: Any) -> None:
    """Refuses one target an example for several outputs: they are class numbers."""
    own = output(model)
    if own is None or len(y.shape) >= len(own.shape) + 1 or own.shape[-1] == 1:
        return
    rest = "".join(f", {size}" for size in own.shape[1:])
    raise ValueError(
        f"`support_y` must be [tasks, examples{rest}] for the loss '{loss.name}', as "
        f"the output of model '{model.name}' is. Received: "
        f"shape={tuple(y.shape)}. For class numbers take "
        "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)`."
    )


def check_sizes(model: keras.Model, name: str, x: Any, *, axes: int) -> None:
    """Refuses examples of another size than the model declares.

    Args:
        model: the wrapped model.
        name: str, the entry's name for the message.
        x: inputs, of one task or of several.
        axes: int, how many axes come before those of an example.

    Raises:
        ValueError: saying both sizes.
    """
    for own, leaf in paired(model, x):
        expected, found = tuple(own.shape[1:]), tuple(leaf.shape[axes:])
        # With an axis more or less Keras adds or takes it, where it can.
        if len(expected) == len(found) and any(
            e not in (None, f) for e, f in zip(expected, found)
        ):
            raise ValueError(
                f"`{name}` must hold examples of shape {expected}, as the input of "
                f"model '{model.name}' is. Received: {found}, in "
                f"shape={tuple(leaf.shape)}, which is "
                f"{'[tasks, examples, ...]' if axes > 1 else '[examples, ...]'}. Make "
                "examples of that shape, or a model for these."
            )


def paired(model: keras.Model, x: Any) -> list[tuple[Any, Any]]:
    """The model's declared inputs, each with what `x` has for it.

    Nothing for a model of one's own, and for a nest that the model itself refuses.
    """
    inputs, leaves = list(getattr(model, "inputs", None) or []), tf.nest.flatten(x)
    if inputs and isinstance(x, dict) and not isinstance(model.input, dict):
        # Keras takes them by the inputs' names, and not in the order of the keys.
        names = {own.name: own for own in inputs}
        return [(names[key], leaf) for key, leaf in x.items() if key in names]
    return list(zip(inputs, leaves)) if len(inputs) == len(leaves) else []


def output(model: keras.Model) -> Any:
    """What a model says of its one output: shape `[None, ...]` and dtype; or None."""
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or None in outputs[0].shape[1:]:
        return None
    nest = getattr(model, "_outputs_struct", None)
    return None if isinstance(nest, (dict, list, tuple)) else outputs[0]


def check_scale(model: keras.Model, task: dict[str, Any], *, hint: str = "") -> None:
    """Refuses bytes for inputs of floats, unless a layer of the model scales them.

    Args:
        model: the wrapped model.
        task: dict of `support_x` and `query_x`, of which only the types are looked at.
        hint: what to do, where there is no training yet that tells.

    Raises:
        ValueError: naming the entry, with what to do.
    """
    for name in ("support_x", "query_x"):
        check_scale_of(model, name, task[name], hint=hint)


def check_scale_of(model: keras.Model, name: str, x: Any, *, hint: str = "") -> None:
    """Refuses bytes for inputs of floats, unless a layer of the model scales them."""
    if _scales(model):
        return
    for own, leaf in paired(model, x):
        images = _is_of_images(own)
        episode_checks.check_scaled(name, leaf, own.dtype, images=images, hint=hint)


def warn_of_bytes(model: keras.Model, x: Any) -> None:
    """Images of 0..255 as floats, for a network that does not scale them."""
    images = (leaf for own, leaf in paired(model, x) if _is_of_images(own))
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
