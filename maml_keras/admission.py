"""What `fit` and `adapt` refuse before anything runs."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras import episode
from maml_keras.inner import InnerLoop
from maml_keras.learner import Learner
from maml_keras.losses import PureLoss


def check_training_data(learner: Learner, inner: InnerLoop, x: Any, y: Any) -> Any:
    """Looks at the first batch of what `fit` was given.

    Args:
        learner: the model as a pure function.
        inner: the inner loop; class labels are checked against the model's outputs.
        x: a dataset, or the task dict itself. An iterator is left unread.
        y: None, or the query targets.

    Returns:
        The first batch, or None where looking at it would have consumed it.

    Raises:
        ValueError: naming the entry, what was expected and what came.
    """
    batch = _first_batch(x, y)
    if batch is None:
        return None
    task, query_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    episode.check_targets(query_y)
    task, query_y = tf.nest.map_structure(tf.convert_to_tensor, (task, query_y))
    episode.check_batch(task, query_y)
    for name, value in {**task, "query_y": query_y}.items():
        episode.check_values(name, value)
    check_scaled(learner.model, task, hint=TRAINING)
    _warn_of_scaling(learner.model, task["support_x"])
    _check_examples_axis(learner.model, task["support_x"])
    _check_sizes(learner.model, "support_x", task["support_x"], axes=2)
    if inner.loss.is_sparse_categorical and not tf.nest.is_nested(query_y):
        example = tf.nest.map_structure(lambda a: a[0, :1], task["support_x"])
        output = _output_shape(learner, example)
        for name, labels in (("support_y", task["support_y"]), ("query_y", query_y)):
            episode.check_class_numbers(name, labels, output)
        width = output[-1]
        support_y, queries = (
            _counted(inner.loss, labels) for labels in (task["support_y"], query_y)
        )
        # Of pixels or words a task need not show each class, nor of classes that vary.
        partial = inner.start_from.frees_ways or inner.loss.ignored_class is not None
        if partial or len(output) > 2:
            episode.check_label_range("support_y", support_y, width)
        else:
            episode.check_labels("support_y", support_y, width)
        episode.check_label_range("query_y", queries, width)
    return task, query_y


def checked_support(
    learner: Learner, loss: PureLoss, x: Any, y: Any
) -> tuple[Any, Any]:
    """One task's support set as tensors.

    Args:
        learner: the model as a pure function.
        loss: the inner loss; class labels are checked against the model's outputs.
        x: inputs `[examples, ...]`.
        y: targets `[examples, ...]`.

    Returns:
        `x` and `y` as tensors.

    Raises:
        ValueError: if the set is empty, not finite or does not fit the model.
    """
    x, y = tf.nest.map_structure(tf.convert_to_tensor, (_whole(x), _whole(y)))
    _check_inputs(learner.model, x)
    one_task = tf.nest.map_structure(lambda a: a[None], {"x": x, "y": y})
    episode.check_batch(
        {
            "support_x": one_task["x"],
            "support_y": one_task["y"],
            "query_x": one_task["x"],
        }
    )
    episode.check_values("support_x", x)
    episode.check_values("support_y", y)
    if loss.is_sparse_categorical and not tf.nest.is_nested(y):
        output = _output_shape(learner, tf.nest.map_structure(lambda a: a[:1], x))
        episode.check_class_numbers("support_y", y[None], output)
        episode.check_label_range("support_y", _counted(loss, y), output[-1])
    return x, y


def check_scaled(model: keras.Model, task: dict[str, Any], *, hint: str = "") -> None:
    """Refuses bytes for inputs of floats, unless a layer of the model scales them.

    Args:
        model: the wrapped model.
        task: dict of `support_x` and `query_x`, of which only the types are looked at.
        hint: what to do, where there is no training yet that tells.

    Raises:
        ValueError: naming the entry, with what to do.
    """
    for name in ("support_x", "query_x"):
        _check_scaled(model, name, task[name], hint=hint)


def check_evaluated(
    learner: Learner,
    inner: PureLoss,
    outer: PureLoss,
    task: dict[str, Any],
    query_y: Any,
) -> None:
    """Refuses a batch that the model is to be measured on and cannot answer.

    Args:
        learner: the model as a pure function.
        inner: the inner loss, of the support targets. Class numbers are checked
            against the outputs that the model declares; one of one's own declares none.
        outer: the outer loss, of the query targets.
        task: dict of `support_x`, `support_y` and `query_x`.
        query_y: query targets.

    Raises:
        ValueError: naming the entry, what was expected and what came.
    """
    check_scaled(learner.model, task)
    _check_sizes(learner.model, "support_x", task["support_x"], axes=2)
    outputs = getattr(learner.model, "outputs", None) or []
    if len(outputs) != 1:
        return
    for loss, name, labels in (
        (inner, "support_y", task["support_y"]),
        (outer, "query_y", query_y),
    ):
        if loss.is_sparse_categorical and not tf.nest.is_nested(labels):
            counted = _counted(loss, labels)
            episode.check_label_range(name, counted, outputs[0].shape[-1])


def _check_inputs(model: keras.Model, x: Any) -> None:
    """Refuses what a model that tells its inputs would take for something else."""
    _check_scaled(model, "support_x", x)
    for declared, leaf in _paired(model, x):
        if len(leaf.shape) == len(declared.shape) + 1:
            raise ValueError(
                "`support_x` must be of one task, [examples, ...]: for this model "
                f"{tuple(declared.shape)}. Received: shape={tuple(leaf.shape)}, with "
                "an axis more. Of a batch of tasks take one: `support_x[0]`."
            )
    _check_sizes(model, "support_x", x, axes=1)


def _check_examples_axis(model: keras.Model, x: Any) -> None:
    """Refuses one task of numbers, which looks like many tasks of one example."""
    for declared, leaf in _paired(model, x):
        shape = tuple(leaf.shape)
        if (
            len(shape) == len(declared.shape) == 2
            and shape[1] == declared.shape[1] == 1
        ):
            raise ValueError(
                "`support_x` must be [tasks, examples, 1] for this model. Received: "
                f"shape={shape}. Of one task make a batch: `x[None]`; to tasks of one "
                "number each give the last axis: `x[..., None]`."
            )


def _check_sizes(model: keras.Model, name: str, x: Any, *, axes: int) -> None:
    """Refuses examples of another size than the model declares.

    Args:
        model: the wrapped model.
        name: str, the entry's name for the message.
        x: inputs, of one task or of several.
        axes: int, how many axes come before those of an example.

    Raises:
        ValueError: saying both sizes.
    """
    for declared, leaf in _paired(model, x):
        expected, found = tuple(declared.shape[1:]), tuple(leaf.shape[axes:])
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


# A layer with a smaller factor is meant for bytes.
SCALES_BYTES = 0.1
# Before training nobody has scaled anything yet.
TRAINING = (
    "Divide by 255, or begin the network with a `keras.layers.Rescaling(1 / 255)`."
)


def _check_scaled(model: keras.Model, name: str, x: Any, *, hint: str = "") -> None:
    """Refuses bytes for inputs of floats, unless a layer of the model scales them."""
    if _scales(model):
        return
    for declared, leaf in _paired(model, x):
        episode.check_scaled(name, leaf, declared.dtype, hint=hint)


def _warn_of_scaling(model: keras.Model, x: Any) -> None:
    """Images in [0, 1] for a network that divides by 255 itself, or 0..255 for none."""
    scaling = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Rescaling)
        and np.all(np.abs(layer.scale) < SCALES_BYTES)
    ]
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(x)]
    floats = [leaf for leaf in leaves if leaf.dtype.kind == "f" and leaf.size]
    if not _scales(model) and any(map(_looks_like_bytes, floats)):
        warnings.warn(
            "The inputs are images of whole numbers up to 255, as floats, and no layer "
            f"of '{model.name}' scales them. {TRAINING}",
            stacklevel=2,
        )
    if scaling and floats and all(np.abs(leaf).max() <= 1.0 for leaf in floats):
        warnings.warn(
            f"The inputs lie in [-1, 1], and the layer '{scaling[0].name}' scales them "
            f"by {scaling[0].scale}: images of bytes are divided by 255 when a task is "
            "drawn from a pool. Leave that layer out, or make the pool of floats: "
            '`images.astype("float32")`.',
            stacklevel=2,
        )


def _scales(model: keras.Model) -> bool:
    """True if a layer is there that scales inputs."""
    scaling = keras.layers.Rescaling, keras.layers.Normalization
    return any(isinstance(layer, scaling) for layer in model._flatten_layers())


def _looks_like_bytes(images: Any) -> bool:
    """True of floats `[tasks, examples, height, width, ...]` that were bytes."""
    return (
        images.ndim >= 4
        and 128 <= images.max() <= 255
        and images.min() >= 0
        and not np.any(images % 1)
    )


def _paired(model: keras.Model, x: Any) -> list[tuple[Any, Any]]:
    """The model's declared inputs, each with what `x` has for it.

    Nothing for a model of one's own, and for a nest that the model itself refuses.
    """
    inputs, leaves = list(getattr(model, "inputs", None) or []), tf.nest.flatten(x)
    if inputs and isinstance(x, dict) and not isinstance(model.input, dict):
        # Keras takes them by the inputs' names, and not in the order of the keys.
        names = {declared.name: declared for declared in inputs}
        return [(names[key], leaf) for key, leaf in x.items() if key in names]
    return list(zip(inputs, leaves)) if len(inputs) == len(leaves) else []


def _counted(loss: PureLoss, labels: Any) -> Any:
    """The class numbers that the loss does not ignore."""
    labels = np.asarray(labels)
    ignored = loss.ignored_class
    return labels if ignored is None else labels[labels != ignored]


def _whole(value: Any) -> Any:
    """A list of numbers as one tensor; a list of arrays stays, as several inputs."""
    listed = isinstance(value, (list, tuple))
    if listed and all(tf.rank(leaf) == 0 for leaf in tf.nest.flatten(value)):
        return tf.convert_to_tensor(value)
    return value


def declared_output(model: keras.Model) -> Any:
    """What a model says of its one output: shape `[None, ...]` and dtype; or None."""
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or None in outputs[0].shape[1:]:
        return None
    nest = getattr(model, "_outputs_struct", None)
    return None if isinstance(nest, (dict, list, tuple)) else outputs[0]


def _output_shape(learner: Learner, example: Any) -> tuple[int, ...]:
    declared = declared_output(learner.model)
    if declared is not None:  # A pass outside of a graph takes a tenth of a second.
        return tuple(declared.shape)
    output = learner(learner.weights(), learner.state(), example, training=False)
    return tuple(map(int, output.predictions.shape))


def _first_batch(x: Any, y: Any) -> Any:
    """The first batch of what `fit` was given, or None if looking would consume it."""
    if isinstance(x, tf.data.Dataset):
        return next(iter(x), None)
    if isinstance(x, keras.utils.PyDataset):
        return x[0]
    if isinstance(x, dict):
        return x, y
    return None
