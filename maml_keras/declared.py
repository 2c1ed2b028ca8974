"""What a model declares of its inputs and outputs, and data that do not fit it."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from maml_keras.losses import PureLoss


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
